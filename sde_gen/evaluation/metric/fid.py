"""Frechet distance of features; with Inception features, FID."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.evaluation.features.base import Features
from sde_gen.evaluation.features.feature_set import FeatureSet
from sde_gen.evaluation.features.inception import Inception
from sde_gen.evaluation.features.statistics import Statistics
from sde_gen.evaluation.metric import _jackknife
from sde_gen.evaluation.metric.sample_metric import Quantity, SampleMetric, SampleResult, at


def frechet_distance(a: Statistics, b: Statistics) -> float:
    r"""Compute the squared 2-Wasserstein distance of two Gaussians.

    .. math::
        |m_a - m_b|^2 + \mathrm{tr}(S_a + S_b - 2 (S_a S_b)^{1/2})

    Source: Dowson and Landau, 1982, The Frechet distance between multivariate normal distributions.
    """
    return _distance(a, b, _root(b.cov))


def _root(cov: Tensor) -> Tensor:
    """Return the symmetric square root of a covariance matrix."""
    values, vectors = torch.linalg.eigh(cov)
    root: Tensor = (
        vectors * values.clamp(min=0).sqrt()
    ) @ vectors.mT  # rounding makes zeros slightly negative
    return root


def _distance(a: Statistics, b: Statistics, root_b: Tensor) -> float:
    """Return the distance, given the square root R of the covariance of b.

    The eigenvalues of S_a S_b are those of R S_a R, which is symmetric: they are real and non-negative, also where
    S_a is singular, while a matrix square root of the product may fail numerically.
    """
    product = root_b @ a.cov @ root_b
    values = torch.linalg.eigvalsh((product + product.mT) / 2)
    trace_of_root = values.clamp(min=0).sqrt().sum()
    squared = (a.mean - b.mean).square().sum() + a.cov.trace() + b.cov.trace() - 2 * trace_of_root
    return float(squared)


@dataclass(frozen=True, kw_only=True)
class FrechetDistance(SampleMetric):
    """Frechet distance of Gaussians with the mean and covariance of the features; the reference is held fixed.

    With Inception features, 50,000 samples and the training set as reference it is the FID of the literature; with
    another number of samples it is named FID@n, as its bias is about proportional to 1 / n. The jackknife removes that
    bias to first order ("extrapolated") and gives the standard error over the samples.

    Source: Heusel et al., 2017, arXiv:1706.08500, equation 6; the bias: Chong and Forsyth, 2020, arXiv:1911.07023.

    Arguments:
        features: the extractor.
        groups: number of jackknife groups; each costs one eigenvalue problem.

    Raises:
        ValueError: groups is below 2.
    """

    features: Features = field(default_factory=Inception)
    groups: int = _jackknife.GROUPS
    what: ClassVar[str] = "Frechet distance of features"
    uses_images: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.groups < 2:
            raise ValueError(f"groups={self.groups}: a jackknife needs at least 2")

    def compare(
        self, samples: FeatureSet, reference: FeatureSet, held_out: FeatureSet | None = None
    ) -> SampleResult:
        """Compute the distance, its standard error and its extrapolation to infinitely many samples."""
        del held_out
        features = samples.vectors("FrechetDistance")
        n, d = features.shape
        root = _root(reference.statistics.cov)
        value = _distance(samples.statistics, reference.statistics, root)
        name = at(self.features.frechet_name, n)
        kept = [mask for mask in _jackknife.group_masks(n, self.groups) if int(mask.sum()) > 1]
        without = [_distance(Statistics.of(features[mask]), reference.statistics, root) for mask in kept]
        how = f"jackknife over {len(without)} groups of samples, reference fixed"
        se = _jackknife.standard_error(without)
        notes = (
            [
                f"{name}: the covariance of {n} samples in {d} features is singular, so the value is mostly bias; take "
                f"more than {d} samples, or kid, which is unbiased"
            ]
            if n <= d
            else []
        )
        return self.result(
            {
                name: Quantity(value, se, how),
                f"{self.features.frechet_name} extrapolated": Quantity(
                    _jackknife.bias_corrected(value, without), se, f"{how}; bias of order 1 / n removed"
                ),
            },
            samples,
            reference,
            *notes,
        )
