"""Kernel distance of features; with Inception features, KID."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from sde_gen.evaluation.features.base import Features
from sde_gen.evaluation.features.feature_set import FeatureSet
from sde_gen.evaluation.features.inception import Inception
from sde_gen.evaluation.metric import _jackknife
from sde_gen.evaluation.metric.sample_metric import Quantity, SampleMetric, SampleResult

MOST_FOR_ERROR = 5_000
"""Maximum number of images per set for the standard error, which is scaled to all images by 1 / sqrt(n)."""


def cubic_kernel(x: Tensor, y: Tensor) -> Tensor:
    """Return the matrix of (x.y / d + 1)^3, for x (n, d) and y (m, d)."""
    k: Tensor = (x @ y.mT / x.shape[1] + 1) ** 3
    return k


@dataclass(frozen=True, kw_only=True)
class KernelDistance(SampleMetric):
    r"""Squared maximum mean discrepancy with a cubic kernel, unbiased, averaged over random subsets.

    .. math::
        \frac{1}{m (m - 1)} \sum_{i \ne j} [k(x_i, x_j) + k(y_i, y_j)] - \frac{2}{m^2} \sum_{i, j} k(x_i, y_j)

    It is unbiased for any number of samples and may be slightly negative. Subsets and their seed are those of
    torch-fidelity. The standard error combines the jackknife error of the two-sample statistic over all images with
    that of the mean over subsets; the standard deviation of the subsets, which papers report, is a separate row.

    Source: Binkowski et al., 2018, arXiv:1801.01401, equation 4.

    Arguments:
        features: the extractor.
        subsets: number of subsets.
        subset_size: number m of images per subset.
        seed: seed of the subsets.

    Raises:
        ValueError: subsets or subset_size is too small.
    """

    features: Features = field(default_factory=Inception)
    subsets: int = 100
    subset_size: int = 1000
    seed: int = 2020
    what: ClassVar[str] = "squared MMD of features, cubic kernel"

    def __post_init__(self) -> None:
        if self.subsets < 1 or self.subset_size < 2:
            raise ValueError(
                f"subsets={self.subsets}, subset_size={self.subset_size}: expected at least 1 and at least 2"
            )

    def check_sizes(self, n: int, n_reference: int | None) -> None:
        """Check that both sets have a subset.

        Raises:
            ValueError: they do not.
        """
        super().check_sizes(n, n_reference)
        least = n if n_reference is None else min(n, n_reference)
        if least < self.subset_size:
            raise ValueError(
                f"kid: subset_size={self.subset_size} of {n} samples and {n_reference} reference images; give more, "
                f"or metric.kid.subset_size={max(2, least // 2)}"
            )

    def compare(
        self, samples: FeatureSet, reference: FeatureSet, held_out: FeatureSet | None = None
    ) -> SampleResult:
        """Compute the mean over the subsets, its standard error and the standard deviation of the subsets."""
        del held_out
        x, y = samples.vectors("KernelDistance").double(), reference.vectors("KernelDistance").double()
        draws, m = np.random.RandomState(self.seed), self.subset_size
        values = []
        for _ in range(self.subsets):
            a = x[torch.from_numpy(draws.choice(len(x), m, replace=False))]
            b = y[torch.from_numpy(draws.choice(len(y), m, replace=False))]
            within = sum(
                float(k.sum() - k.diagonal().sum()) for k in (cubic_kernel(a, a), cubic_kernel(b, b))
            )
            values.append(within / (m * (m - 1)) - 2 * float(cubic_kernel(a, b).mean()))
        found = torch.tensor(values, dtype=torch.float64)
        spread = float(found.std(correction=0))
        complete = self._error_of_all_pairs(x, y)
        name = "KID" if self.features.frechet_name == "FID" else f"KD-{self.features.name}"
        se = math.hypot(complete, spread / math.sqrt(self.subsets))
        how = "jackknife over samples and reference, with the spread of the subsets' mean"
        return self.result(
            {
                name: Quantity(float(found.mean()), se, how),
                f"{name} standard deviation of subsets": Quantity(spread, math.nan, "none"),
            },
            samples,
            reference,
            subsets=self.subsets,
            subset_size=m,
            seed=self.seed,
        )

    def _error_of_all_pairs(self, x: Tensor, y: Tensor) -> float:
        """Return the jackknife standard error of the statistic over all pairs."""
        a, b = x[:MOST_FOR_ERROR], y[:MOST_FOR_ERROR]
        (rows_a, _), (rows_b, _) = (
            _jackknife.kernel_sums(points, points, cubic_kernel, skip_diagonal=True) for points in (a, b)
        )
        across = _jackknife.kernel_sums(a, b, cubic_kernel, skip_diagonal=False)
        error = _jackknife.u_statistic_error(
            (rows_a, float(rows_a.sum())), (rows_b, float(rows_b.sum())), across
        )
        return error * math.sqrt((1 / len(x) + 1 / len(y)) / (1 / len(a) + 1 / len(b)))
