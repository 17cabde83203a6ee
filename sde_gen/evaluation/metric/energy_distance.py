"""Energy distance."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.evaluation.features.base import Features
from sde_gen.evaluation.features.feature_set import FeatureSet
from sde_gen.evaluation.features.pixels import Pixels
from sde_gen.evaluation.metric import _jackknife
from sde_gen.evaluation.metric.sample_metric import Quantity, SampleMetric, SampleResult


def negative_distance(x: Tensor, y: Tensor) -> Tensor:
    """Return the matrix of -|x - y|, for x (n, d) and y (m, d)."""
    return -torch.cdist(x, y)


@dataclass(frozen=True, kw_only=True)
class EnergyDistance(SampleMetric):
    r"""Energy distance, unbiased, and zero only for equal distributions.

    .. math::
        2 E|X - Y| - E|X - X'| - E|Y - Y'|

    By default of pixels in [0, 1], without a network. The estimate may be slightly negative.

    Source: Szekely and Rizzo, 2013, Energy statistics: a class of statistics based on distances.

    Arguments:
        features: the extractor.
        most: maximum number of images per set; the first ones are used.

    Raises:
        ValueError: most is below 3.
    """

    features: Features = field(default_factory=Pixels)
    most: int = 10_000
    what: ClassVar[str] = "energy distance"

    def __post_init__(self) -> None:
        if self.most < 3:
            raise ValueError(f"most={self.most}: expected at least 3 images")

    def check_sizes(self, n: int, n_reference: int | None) -> None:
        """Check that both sets have a third image.

        Raises:
            ValueError: they do not.
        """
        super().check_sizes(n, n_reference)
        if min(n, n if n_reference is None else n_reference) < 3:
            raise ValueError(
                f"energy_distance: {n} samples and {n_reference} reference images; at least 3 are needed"
            )

    def compare(
        self, samples: FeatureSet, reference: FeatureSet, held_out: FeatureSet | None = None
    ) -> SampleResult:
        """Compute the distance and its standard error over samples and reference."""
        del held_out
        x = samples.vectors("EnergyDistance")[: self.most].double()
        y = reference.vectors("EnergyDistance")[: self.most].double()
        n, m = len(x), len(y)
        (rows_x, _), (rows_y, _) = (
            _jackknife.kernel_sums(points, points, negative_distance, skip_diagonal=True) for points in (x, y)
        )
        across = _jackknife.kernel_sums(x, y, negative_distance, skip_diagonal=False)
        own_x, own_y = float(rows_x.sum()), float(rows_y.sum())
        value = own_x / (n * (n - 1)) + own_y / (m * (m - 1)) - 2 * float(across[0].sum()) / (n * m)
        se = _jackknife.u_statistic_error((rows_x, own_x), (rows_y, own_y), across)
        return self.result(
            {f"energy-{self.features.name}": Quantity(value, se, "jackknife over samples and reference")},
            samples,
            reference,
            most=self.most,
        )
