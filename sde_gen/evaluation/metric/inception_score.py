"""Inception score."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch

from sde_gen.evaluation.features.base import Features
from sde_gen.evaluation.features.feature_set import FeatureSet
from sde_gen.evaluation.features.inception import Inception
from sde_gen.evaluation.metric.sample_metric import Quantity, SampleMetric, SampleResult, at


@dataclass(frozen=True, kw_only=True)
class InceptionScore(SampleMetric):
    r"""Exponentiated mutual information of sample and class under a classifier, averaged over splits of the samples.

    .. math::
        \exp E_x KL(p(y | x) \| p(y))

    It lies between 1 and the number of classes and ignores the reference: it detects neither memorization nor missing
    diversity within a class.

    Source: Salimans et al., 2016, arXiv:1606.03498, section 4. Shuffling and splits are those of torch-fidelity.

    Arguments:
        features: an extractor with logits.
        splits: number of splits.
        seed: seed of the shuffling.

    Raises:
        ValueError: splits is below 2.
    """

    features: Features = field(default_factory=Inception)
    splits: int = 10
    seed: int = 2020
    what: ClassVar[str] = "exponentiated mutual information of sample and class"
    larger_is_better: ClassVar[bool] = True
    uses_images: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.splits < 2:
            raise ValueError(f"splits={self.splits}: a standard error needs at least 2")

    def check_sizes(self, n: int, n_reference: int | None) -> None:
        """Check that every part has a sample.

        Raises:
            ValueError: it has none.
        """
        super().check_sizes(n, n_reference)
        if n < self.splits:
            raise ValueError(f"inception_score: {n} samples are fewer than splits={self.splits}")

    def check_features(self, samples: FeatureSet, reference: FeatureSet) -> None:
        """Check that there are logits too.

        Raises:
            ValueError: there are none, or as in the other metrics.
        """
        super().check_features(samples, reference)
        if samples.logits is None:
            raise ValueError(
                f"inception_score needs a classifier, and {self.features.name} has no logits; take features=inception"
            )

    def compare(
        self, samples: FeatureSet, reference: FeatureSet, held_out: FeatureSet | None = None
    ) -> SampleResult:
        """Compute the mean over the splits, its standard error and the standard deviation of the splits."""
        del held_out
        assert samples.logits is not None
        n = len(samples.logits)
        order = np.random.RandomState(self.seed).permutation(n)
        logits = samples.logits[torch.from_numpy(order)].double()
        log_p = logits.log_softmax(1)
        scores = []
        for i in range(self.splits):
            part = log_p[i * n // self.splits : (i + 1) * n // self.splits]
            p = part.exp()
            log_marginal = part.logsumexp(0) - math.log(len(part))
            scores.append(float((p * (part - log_marginal)).sum(1).mean().exp()))
        found = torch.tensor(scores, dtype=torch.float64)
        name = "IS" if self.features.frechet_name == "FID" else f"IS-{self.features.name}"
        spread = float(found.std(correction=0))
        se = float(found.std()) / math.sqrt(self.splits)
        return self.result(
            {
                at(name, n): Quantity(float(found.mean()), se, f"spread of {self.splits} disjoint parts"),
                f"{name} standard deviation of parts": Quantity(spread, math.nan, "none"),
            },
            samples,
            reference,
            splits=self.splits,
            seed=self.seed,
        )
