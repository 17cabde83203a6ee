"""Memorization: nearest training neighbors of samples beside those of held-out images."""

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
    """Nearest training neighbors of the samples, compared with those of images held out of training.

    Three numbers:

    * copies: share of samples nearer to a training image than all but a share ``level`` of the held-out images are.
      A model that generalizes as the held-out images do has ``level``; the excess is copied.
    * nearer: probability that a sample lies nearer to the training set than a held-out image does, 0.5 without
      memorization (Meehan et al., 2020, arXiv:2004.05675, the statistic without cells).
    * authentic: share of samples farther from their nearest training image than that one is from its own nearest
      training neighbor (Alaa et al., 2022, arXiv:2102.08921, section 3).

    Poor samples lie far from all images and look original: read it beside a metric of quality.

    Arguments:
        features: the extractor.
        level: share of the held-out images that counts as near.

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
        usual = nearest(test, train)[0]
        n, m = len(x), len(test)
        threshold = usual.kthvalue(max(1, math.ceil(self.level * m))).values
        copies = float((near <= threshold).double().mean())
        wins = (near.unsqueeze(1) < usual) + 0.5 * (near.unsqueeze(1) == usual)  # (n, m)
        over_m, over_n = wins.mean(1), wins.mean(0)
        nearer_se = math.sqrt(float(over_m.var()) / n + float(over_n.var()) / m)
        own = nearest(train, train, skip_self=True)[0]
        authentic = float((near > own[index]).double().mean())
        name = f"copies at level {self.level:g}, {self.features.name}"
        expected = self.level * (1 - self.level) / m
        notes = (
            [
                f"memorization: {m} held-out images are few for level={self.level:g}; 1 / level or more are needed"
            ]
            if m * self.level < 1
            else []
        )
        return self.result(
            {
                name: Quantity(
                    copies,
                    math.sqrt(copies * (1 - copies) / n + expected),
                    "binomial, of the samples and of the held-out quantile",
                ),
                "nearer than a held-out image (0.5: none copied)": Quantity(
                    float(over_m.mean()), nearer_se, "two-sample U-statistic"
                ),
                "authentic": Quantity(authentic, math.sqrt(authentic * (1 - authentic) / n), "binomial"),
            },
            samples,
            reference,
            *notes,
            level=self.level,
            held_out_images=m,
        )


def nearest(x: Tensor, train: Tensor, *, skip_self: bool = False, rows: int = 1024) -> tuple[Tensor, Tensor]:
    """Distances to the nearest training point, and its index, both with shape (n,).

    Arguments:
        x: points with shape (n, d).
        train: training points with shape (m, d).
        skip_self: whether x are the training points themselves, each of which looks for another one.
        rows: points at a time.
    """
    distances, indices = [], []
    for first in range(0, len(x), rows):
        # without the expansion |x|^2 - 2 x.y + |y|^2, whose rounding would hide that a copy has distance 0
        pairs = torch.cdist(x[first : first + rows], train, compute_mode="donot_use_mm_for_euclid_dist")
        if skip_self:
            index = torch.arange(len(pairs))
            pairs[index, first + index] = math.inf
        found = pairs.min(1)
        distances.append(found.values.double())
        indices.append(found.indices)
    return torch.cat(distances), torch.cat(indices)
