"""Jackknife estimates of standard errors."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

GROUPS = 10
"""Default number of groups of a grouped jackknife."""


def group_masks(n: int, groups: int) -> list[Tensor]:
    """Return the leave-one-group-out masks (n,); group j has the images j, j + groups, ..."""
    groups = min(groups, n)
    number = torch.arange(n) % groups
    return [number != j for j in range(groups)]


def standard_error(leave_one_out: Sequence[float]) -> float:
    """Compute the standard error from the leave-one-out values: sqrt((g - 1) / g sum (v_j - mean)^2).

    Source: Efron and Stein, 1981, The jackknife estimate of variance.
    """
    g = len(leave_one_out)
    if g < 2:
        return math.nan
    values = torch.tensor(leave_one_out, dtype=torch.float64)
    return float((values - values.mean()).square().sum().mul((g - 1) / g).sqrt())


def bias_corrected(value: float, leave_one_out: Sequence[float]) -> float:
    """Return g v - (g - 1) mean v_j, in which the bias of order 1 / n cancels (Quenouille, 1956)."""
    g = len(leave_one_out)
    return g * value - (g - 1) * sum(leave_one_out) / g


def u_statistic_error(
    within_a: tuple[Tensor, float], within_b: tuple[Tensor, float], across: tuple[Tensor, Tensor]
) -> float:
    """Standard error of mean k(x, x') + mean k(y, y') - 2 mean k(x, y), by the delete-one jackknife.

    Arguments:
        within_a: sums of k(x_i, x_j) over j != i with shape (n,), and their total.
        within_b: the same for y, with shape (m,).
        across: sums of k(x_i, y_j) over j with shape (n,), and over i with shape (m,).
    """
    total = float(across[0].sum())
    variance = 0.0
    for (rows, own), cross, other in (
        (within_a, across[0], len(across[1])),
        (within_b, across[1], len(across[0])),
    ):
        n = len(rows)
        if n < 3:
            return math.nan
        without = (own - 2 * rows) / ((n - 1) * (n - 2)) - 2 * (total - cross) / ((n - 1) * other)
        variance += standard_error(without.tolist()) ** 2
    return math.sqrt(variance)


Kernel = Callable[[Tensor, Tensor], Tensor]


def kernel_sums(
    a: Tensor, b: Tensor, kernel: Kernel, *, skip_diagonal: bool, rows: int = 1024
) -> tuple[Tensor, Tensor]:
    """Sum k(a_i, b_j) over j and over i without storing the matrix of all pairs.

    Arguments:
        a: points with shape (n, d).
        b: points with shape (m, d).
        kernel: function from two sets of points to the matrix of k.
        skip_diagonal: leave out i = j, for two equal sets.
        rows: rows of the matrix per block.

    Returns:
        Sums over j with shape (n,) and over i with shape (m,).
    """
    over_b, over_a = [], torch.zeros(len(b), dtype=a.dtype)
    for first in range(0, len(a), rows):
        k = kernel(a[first : first + rows], b)
        if skip_diagonal:
            index = torch.arange(len(k))
            k[index, first + index] = 0
        over_b.append(k.sum(1))
        over_a += k.sum(0)
    return torch.cat(over_b), over_a
