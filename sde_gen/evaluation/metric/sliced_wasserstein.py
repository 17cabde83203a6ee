"""Sliced Wasserstein distance."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

from sde_gen.evaluation.features.base import Features
from sde_gen.evaluation.features.feature_set import FeatureSet
from sde_gen.evaluation.features.pixels import Pixels
from sde_gen.evaluation.metric import _jackknife, _sliced
from sde_gen.evaluation.metric.sample_metric import Quantity, SampleMetric, SampleResult


@dataclass(frozen=True, kw_only=True)
class SlicedWasserstein(SampleMetric):
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
    count: int = 1000
    seed: int = 0
    groups: int = _jackknife.GROUPS
    what: ClassVar[str] = "sliced 2-Wasserstein distance"

    def __post_init__(self) -> None:
        _sliced.check(self.count, self.groups)

    def compare(
        self, samples: FeatureSet, reference: FeatureSet, held_out: FeatureSet | None = None
    ) -> SampleResult:
        """Compute the distance and its standard error."""
        del held_out
        x, y = samples.vectors("SlicedWasserstein"), reference.vectors("SlicedWasserstein")
        value, without, drawn = _sliced.mean_over_directions(
            x, y, count=self.count, seed=self.seed, groups=self.groups
        )
        root = math.sqrt(value)
        se = math.hypot(
            _jackknife.standard_error([math.sqrt(each) for each in without]), drawn / (2 * root or 1)
        )
        how = f"jackknife over {len(without)} groups of samples and reference, with the spread of directions"
        return self.result(
            {f"SW2-{self.features.name}@{len(x)}": Quantity(root, se, how)},
            samples,
            reference,
            count=self.count,
            seed=self.seed,
        )
