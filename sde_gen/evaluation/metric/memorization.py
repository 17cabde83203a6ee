"""Memorization: nearest training neighbors of samples and of held-out images."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.evaluation.features.base import Features
from sde_gen.evaluation.features.feature_set import FeatureSet
from sde_gen.evaluation.features.inception import Inception
from sde_gen.evaluation.metric.sample_metric import Quantity, SampleMetric, SampleResult


@dataclass(frozen=True, kw_only=True)
class Memorization(SampleMetric):
    """Distances of samples to their nearest training images, compared with those of held-out images.

    Three numbers:

    * copies: share of samples whose distance lies below the quantile ``level`` of the held-out distances. Without
      memorization it is ``level``; the excess consists of copies.
    * nearer: probability that a sample is nearer to the training set than a held-out image, 0.5 without
      memorization (Meehan et al., 2020, arXiv:2004.05675, the statistic without cells).
    * authentic: share of samples farther from their nearest training image than that image is from its nearest
      training neighbor (Alaa et al., 2022, arXiv:2102.08921, section 3).

    Poor samples are far from all images and count as original: read it together with a metric of quality.

    Arguments:
        features: the extractor.
        level: quantile of the held-out distances below which a sample counts as a copy.

    Raises:
        ValueError: level is not in (0, 0.5].
    """

    features: Features = field(default_factory=Inception)
    level: float = 0.01
    what: ClassVar[str] = "samples nearer to training images than held-out images are"
    uses_held_out: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.level <= 0.5:
            raise ValueError(f"level={self.level}: expected a share in (0, 0.5]")

    def compare(
        self, samples: FeatureSet, reference: FeatureSet, held_out: FeatureSet | None = None
    ) -> SampleResult:
        """Compute the three numbers with their standard errors."""
        assert held_out is not None
        x, train = samples.vectors("Memorization"), reference.vectors("Memorization")
        test = held_out.vectors("Memorization")
        near, index = nearest(x, train)
        usual, own = nearest(test, train)[0], nearest(train, train, skip_self=True)[0]
        few = len(test) * self.level < 1
        note = (
            f"memorization: {len(test)} held-out images are few for level={self.level:g}; "
            "1 / level or more are needed"
        )
        return self.result(
            {
                f"copies at level {self.level:g}, {self.features.name}": self._copies(near, usual),
                "nearer than a held-out image (0.5: none copied)": _nearer(near, usual),
                "authentic": _authentic(near, own[index]),
            },
            samples,
            reference,
            *([note] if few else []),
            level=self.level,
            held_out_images=len(test),
        )

    def _copies(self, near: Tensor, usual: Tensor) -> Quantity:
        """Return the share of samples below the quantile of the held-out distances."""
        n, m = len(near), len(usual)
        threshold = usual.kthvalue(max(1, math.ceil(self.level * m))).values
        copies = float((near <= threshold).double().mean())
        se = math.sqrt(copies * (1 - copies) / n + self.level * (1 - self.level) / m)
        return Quantity(copies, se, "binomial, of the samples and of the held-out quantile")


def _nearer(near: Tensor, usual: Tensor) -> Quantity:
    """Return the probability that a sample is nearer to the training images than a held-out image is."""
    wins = (near.unsqueeze(1) < usual) + 0.5 * (near.unsqueeze(1) == usual)  # (n, m)
    over_m, over_n = wins.mean(1), wins.mean(0)
    se = math.sqrt(float(over_m.var()) / len(near) + float(over_n.var()) / len(usual))
    return Quantity(float(over_m.mean()), se, "two-sample U-statistic")


def _authentic(near: Tensor, own: Tensor) -> Quantity:
    """Return the share of samples farther from their nearest training image than that from its neighbors."""
    share = float((near > own).double().mean())
    return Quantity(share, math.sqrt(share * (1 - share) / len(near)), "binomial")


def nearest(x: Tensor, train: Tensor, *, skip_self: bool = False, rows: int = 1024) -> tuple[Tensor, Tensor]:
    """Return the distance to the nearest training point and its index, both with shape (n,).

    Arguments:
        x: points with shape (n, d).
        train: training points with shape (m, d).
        skip_self: True if x are the training points, to exclude each point itself.
        rows: points per block.
    """
    distances, indices = [], []
    for first in range(0, len(x), rows):
        # without the expansion |x|^2 - 2 x.y + |y|^2, whose rounding would hide the distance 0 of a copy
        pairs = torch.cdist(x[first : first + rows], train, compute_mode="donot_use_mm_for_euclid_dist")
        if skip_self:
            index = torch.arange(len(pairs))
            pairs[index, first + index] = math.inf
        found = pairs.min(1)
        distances.append(found.values.double())
        indices.append(found.indices)
    return torch.cat(distances), torch.cat(indices)
