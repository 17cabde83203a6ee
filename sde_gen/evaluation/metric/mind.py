"""Monge inception distance."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

from sde_gen.evaluation.features.base import Features
from sde_gen.evaluation.features.inception import Inception
from sde_gen.evaluation.metric import _jackknife
from sde_gen.evaluation.metric._sliced import SlicedDistance, SlicedMetric
from sde_gen.evaluation.metric.sample_metric import Quantity, at


@dataclass(frozen=True, kw_only=True)
class MIND(SlicedMetric):
    """Monge inception distance: three times d times the mean squared 2-Wasserstein distance along random directions.

    Unlike the Frechet distance it compares one-dimensional marginals, not two moments. It is biased for few samples:
    compare models at equal n.

    Source: arXiv:2605.06797 (2026).

    Arguments:
        features: the extractor.
        count: number M of directions.
        seed: seed of the directions.
        groups: number of jackknife groups.

    Raises:
        ValueError: a number is too small.
    """

    features: Features = field(default_factory=Inception)
    what: ClassVar[str] = "sliced 2-Wasserstein distance of features, squared, times 3 d"

    def quantity(self, distance: SlicedDistance, n: int, d: int) -> tuple[str, Quantity]:
        """Return 3 d times the mean squared distance."""
        name = "MIND" if self.features.frechet_name == "FID" else f"MIND-{self.features.name}"
        se = math.hypot(_jackknife.standard_error(distance.without), distance.direction_se)
        return at(name, n), Quantity(3 * d * distance.mean, 3 * d * se, distance.how)
