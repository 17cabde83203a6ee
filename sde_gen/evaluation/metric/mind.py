"""Monge inception distance."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

from sde_gen.evaluation.features.base import Features
from sde_gen.evaluation.features.feature_set import FeatureSet
from sde_gen.evaluation.features.inception import Inception
from sde_gen.evaluation.metric import _jackknife, _sliced
from sde_gen.evaluation.metric.sample_metric import Quantity, SampleMetric, SampleResult, at


@dataclass(frozen=True, kw_only=True)
class MIND(SampleMetric):
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
    count: int = 1000
    seed: int = 0
    groups: int = _jackknife.GROUPS
    what: ClassVar[str] = "sliced 2-Wasserstein distance of features, squared, times 3 d"

    def __post_init__(self) -> None:
        _sliced.check(self.count, self.groups)

    def compare(
        self, samples: FeatureSet, reference: FeatureSet, held_out: FeatureSet | None = None
    ) -> SampleResult:
        """Compute the distance and its standard error."""
        del held_out
        x, y = samples.vectors("MIND"), reference.vectors("MIND")
        value, without, drawn = _sliced.mean_over_directions(
            x, y, count=self.count, seed=self.seed, groups=self.groups
        )
        se = math.hypot(_jackknife.standard_error(without), drawn)
        scale = 3 * x.shape[1]
        name = "MIND" if self.features.frechet_name == "FID" else f"MIND-{self.features.name}"
        how = f"jackknife over {len(without)} groups of samples and reference, with the spread of directions"
        return self.result(
            {at(name, len(x)): Quantity(scale * value, scale * se, how)},
            samples,
            reference,
            count=self.count,
            seed=self.seed,
        )
