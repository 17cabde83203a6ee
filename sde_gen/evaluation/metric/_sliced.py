"""Sliced 2-Wasserstein distances."""

import abc
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sde_gen.evaluation.features.feature_set import FeatureSet
from sde_gen.evaluation.metric import _jackknife
from sde_gen.evaluation.metric.sample_metric import Quantity, SampleMetric, SampleResult


def directions(count: int, d: int, seed: int) -> Tensor:
    """Draw unit vectors, float64 with shape (d, count)."""
    drawn = torch.randn(d, count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(drawn, dim=0)


def squared_distances(projected_a: Tensor, projected_b: Tensor) -> Tensor:
    """Return the squared 2-Wasserstein distance per direction with shape (M,), given projections (n, M) and (m, M).

    In one dimension the optimal transport pairs quantiles. With n = m it is the mean squared difference of the sorted
    values; else the quantile functions are integrated piecewise over the union of their steps.
    """
    a, b = projected_a.sort(0).values, projected_b.sort(0).values
    n, m = len(a), len(b)
    if min(n, m) == 0:
        raise ValueError(f"{n} samples and {m} reference images: at least 2 groups of each are needed")
    if n == m:
        return (a - b).square().mean(0)
    steps = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).unique()  # type: ignore[no-untyped-call]
    widths = torch.diff(steps, prepend=steps.new_zeros(1)).double() / (n * m)
    index = steps - 1
    return (widths.unsqueeze(1) * (a[index // m] - b[index // n]).square()).sum(0)


class SlicedDistance(NamedTuple):
    """Mean squared 2-Wasserstein distance over directions.

    Arguments:
        mean: the mean.
        without: its leave-one-group-out values.
        direction_se: standard error over the directions.
    """

    mean: float
    without: list[float]
    direction_se: float

    @property
    def how(self) -> str:
        """Method of the standard error."""
        return f"jackknife over {len(self.without)} groups of samples and reference, with the spread of directions"


@dataclass(frozen=True, kw_only=True)
class SlicedMetric(SampleMetric):
    """Base class of metrics of the distances along random directions.

    Arguments:
        count: number M of directions.
        seed: seed of the directions.
        groups: number of jackknife groups.

    Raises:
        ValueError: a number is too small.
    """

    count: int = 1000
    seed: int = 0
    groups: int = _jackknife.GROUPS

    def __post_init__(self) -> None:
        if self.count < 2 or self.groups < 2:
            raise ValueError(
                f"count={self.count}, groups={self.groups}: expected at least 2 directions and 2 groups"
            )

    def compare(
        self, samples: FeatureSet, reference: FeatureSet, held_out: FeatureSet | None = None
    ) -> SampleResult:
        """Compute the distance and its standard error."""
        del held_out
        metric = type(self).__name__
        x, y = samples.vectors(metric), reference.vectors(metric)
        name, quantity = self.quantity(self.distance(x, y), *x.shape)
        return self.result({name: quantity}, samples, reference, count=self.count, seed=self.seed)

    @abc.abstractmethod
    def quantity(self, distance: SlicedDistance, n: int, d: int) -> tuple[str, Quantity]:
        """Return name and value of the metric for n samples of d features."""

    def distance(self, x: Tensor, y: Tensor) -> SlicedDistance:
        """Compute the mean squared 2-Wasserstein distance of x (n, d) and y (m, d) over random directions."""
        theta = directions(self.count, x.shape[1], self.seed)
        a, b = x.double() @ theta, y.double() @ theta
        squared = squared_distances(a, b)
        masks = (_jackknife.group_masks(len(each), self.groups) for each in (a, b))
        without = [
            float(squared_distances(a[keep_a], b[keep_b]).mean())
            for keep_a, keep_b in zip(*masks, strict=False)
        ]
        return SlicedDistance(float(squared.mean()), without, float(squared.std()) / math.sqrt(self.count))
