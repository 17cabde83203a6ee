"""Sliced Wasserstein distance."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

from sde_gen.evaluation.features.base import Features
from sde_gen.evaluation.features.pixels import Pixels
from sde_gen.evaluation.metric import _jackknife
from sde_gen.evaluation.metric._sliced import SlicedDistance, SlicedMetric
from sde_gen.evaluation.metric.sample_metric import Quantity


@dataclass(frozen=True, kw_only=True)
class SlicedWasserstein(SlicedMetric):
    """Sliced 2-Wasserstein distance: root of the mean over directions of the squared one-dimensional distances.

    By default of pixels in [0, 1], without a network: it compares marginals, not perceptual quality.

    Source: Bonneel et al., 2015, Sliced and Radon Wasserstein barycenters of measures.

    Arguments:
        features: the extractor.
        count: number of directions.
        seed: seed of the directions.
        groups: number of jackknife groups.

    Raises:
        ValueError: a number is too small.
    """

    features: Features = field(default_factory=Pixels)
    what: ClassVar[str] = "sliced 2-Wasserstein distance"

    def quantity(self, distance: SlicedDistance, n: int, d: int) -> tuple[str, Quantity]:
        """Return the root of the mean squared distance; its errors follow by the derivative of the root."""
        del d
        root = math.sqrt(distance.mean)
        jackknife = _jackknife.standard_error([math.sqrt(each) for each in distance.without])
        se = math.hypot(jackknife, distance.direction_se / (2 * root or 1))
        return f"SW2-{self.features.name}@{n}", Quantity(root, se, distance.how)
