"""Sliced 2-Wasserstein distances."""

import math

import torch
from torch import Tensor

from sde_gen.evaluation.metric import _jackknife


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


def mean_over_directions(
    x: Tensor, y: Tensor, *, count: int, seed: int, groups: int
) -> tuple[float, list[float], float]:
    """Compute the mean squared 2-Wasserstein distance over random directions.

    Arguments:
        x: samples with shape (n, d).
        y: reference with shape (m, d).
        count: number of directions.
        seed: seed of the directions.
        groups: number of jackknife groups.

    Returns:
        The mean, its leave-one-group-out values, and the standard error over the directions.
    """
    theta = directions(count, x.shape[1], seed)
    a, b = x.double() @ theta, y.double() @ theta
    squared = squared_distances(a, b)
    masks = zip(_jackknife.group_masks(len(a), groups), _jackknife.group_masks(len(b), groups), strict=False)
    without = [float(squared_distances(a[keep_a], b[keep_b]).mean()) for keep_a, keep_b in masks]
    return float(squared.mean()), without, float(squared.std()) / math.sqrt(count)


def check(count: int, groups: int) -> None:
    """Raise ValueError if a number is too small."""
    if count < 2 or groups < 2:
        raise ValueError(f"count={count}, groups={groups}: expected at least 2 directions and 2 groups")
