"""Classifier two-sample test."""

import warnings
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from sde_gen.evaluation.metric.posterior_metric import ConditionalSamples, PosteriorMetric, PosteriorResult
from sde_gen.evaluation.metric.sample_metric import Quantity


@dataclass(frozen=True, kw_only=True)
class C2ST(PosteriorMetric):
    """Accuracy of a classifier of samples of the model and of the exact posterior: 0.5 if they are alike, at most 1.

    For every observation a network with two layers of 10 D units is trained on standardized samples and tested on
    others by cross-validation; the metric is the mean over observations.

    Sources: Friedman, 2003; Lopez-Paz and Oquab, 2017, arXiv:1610.06545; the classifier: Lueckmann et al., 2021,
    arXiv:2101.04653, appendix M.

    Arguments:
        observations: number of observations.
        draws: samples of each of the two, per observation.
        folds: parts of the cross-validation.

    Raises:
        ValueError: folds is below 2 or above draws.
    """

    observations: int = 10
    draws: int = 1000
    folds: int = 5
    what: ClassVar[str] = "accuracy of a classifier of model and exact samples"
    needs_reference: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= self.folds <= self.draws:
            raise ValueError(f"folds={self.folds}: expected 2 to draws={self.draws}")

    def __call__(self, samples: ConditionalSamples, rng: np.random.Generator) -> PosteriorResult:
        """Train a classifier for every condition, and return the mean accuracy."""
        if samples.reference is None:
            raise ValueError("c2st needs samples of the exact distribution")
        pairs = zip(samples.draws, samples.reference, strict=True)
        accuracy = torch.tensor(
            [
                two_sample_accuracy(one, other, folds=self.folds, seed=int(rng.integers(2**31)))
                for one, other in pairs
            ]
        ).double()
        n = len(accuracy)
        name = f"C2ST@{samples.draws.shape[1]}"
        return PosteriorResult(
            quantities={
                name: Quantity(
                    float(accuracy.mean()), float(accuracy.std()) / n**0.5, f"spread of {n} observations"
                ),
                "largest": Quantity(float(accuracy.max()), float("nan"), "the worst observation"),
            }
        )


def two_sample_accuracy(one: Tensor, other: Tensor, *, folds: int = 5, seed: int = 0) -> float:
    """Return the cross-validated accuracy of a classifier of two sets of vectors (n, D) and (m, D)."""
    from sklearn.exceptions import ConvergenceWarning  # imported lazily: slow to import
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.neural_network import MLPClassifier

    both = torch.cat([one.double(), other.double()])
    mean, std = other.double().mean(0), other.double().std(0)
    both = (both - mean) / torch.where(std > 0, std, 1.0)
    label = torch.cat([torch.zeros(len(one)), torch.ones(len(other))]).numpy()
    hidden = 10 * both.shape[1]
    classifier = MLPClassifier(
        hidden_layer_sizes=(hidden, hidden), max_iter=EPOCHS, learning_rate_init=RATE, random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the budget is the usual one
        parts = StratifiedKFold(folds, shuffle=True, random_state=seed)
        scores = cross_val_score(classifier, both.numpy(), label, cv=parts, scoring="accuracy")
    return float(np.mean(scores))


EPOCHS, RATE = 100, 3e-3
"""Epochs of a classifier, and learning rate of Adam."""
