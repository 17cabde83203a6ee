"""Tableaux of explicit Runge-Kutta methods, and their stages."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Tableau(NamedTuple):
    r"""Butcher's tableau of ``k_i = f(u + c_i h, y + h sum_j a_ij k_j)``, ``y' = y + h sum_i b_i k_i``.

    Arguments:
        c: nodes of the stages, the first 0.
        a: weights of the stages from the second on, one for each stage before.
        b: weights of the step.
    """

    c: tuple[float, ...]
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]


class RungeKuttaPair(NamedTuple):
    """A method whose last stage is the first of the next step, and one of a lower order on the same stages.

    Arguments:
        tableau: of the method that is kept; the last row of a is b.
        error: weights of its step less those of the lower order's.
        order: order of the method that is kept.
    """

    tableau: Tableau
    error: tuple[float, ...]
    order: int

    def step(
        self, y: Tensor, h: Tensor, slope: Tensor, slope_at: Callable[[int, Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Take a step.

        Arguments:
            y: states with shape (b, *event).
            h: lengths of the step that broadcast against them.
            slope: slopes at its begin with shape (b, *event).
            slope_at: (number of a stage, states there) to slopes, for the stages from 1 on.

        Returns:
            States at its end, and the slopes of all stages with shape (stages, b, *event).
        """
        slopes = slope.new_empty(len(self.tableau.c), *slope.shape)
        slopes[0], end = slope, y
        for k, row in enumerate(self.tableau.a, start=1):
            end = y + h * weighted_sum(row, slopes)
            slopes[k] = slope_at(k, end)
        return end, slopes

    def dense_output(self, r: Tensor, y: Tensor, end: Tensor, h: Tensor, slopes: Tensor) -> Tensor:
        """Interpolate between the ends of a step at the fraction r, by the cubic through both and their slopes."""
        rise = end - y
        curvature = (1 - 2 * r) * rise + (r - 1) * h * slopes[0] + r * h * slopes[-1]
        return y + r * rise + r * (r - 1) * curvature


def weighted_sum(weights: tuple[float, ...], slopes: Tensor) -> Tensor:
    """Return the sum of weights times slopes, of the first slopes if there are fewer weights."""
    row = torch.tensor(weights, dtype=slopes.dtype, device=slopes.device)
    total: Tensor = torch.tensordot(row, slopes[: len(weights)], 1)
    return total


RUNGE_KUTTA_4 = Tableau(
    c=(0, 1 / 2, 1 / 2, 1),
    a=((1 / 2,), (0, 1 / 2), (0, 0, 1)),
    b=(1 / 6, 1 / 3, 1 / 3, 1 / 6),
)
"""The classical method.

Source: Kutta, 1901; Hairer, Norsett and Wanner, 1993, Solving Ordinary Differential Equations I, table II.1.2.
"""

DORMAND_PRINCE = RungeKuttaPair(
    Tableau(
        c=(0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1),
        a=(
            (1 / 5,),
            (3 / 40, 9 / 40),
            (44 / 45, -56 / 15, 32 / 9),
            (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
            (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
            (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
        ),
        b=(35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0),
    ),
    error=(71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40),
    order=5,
)
"""Orders 5 and 4, six evaluations a step.

Sources: Dormand and Prince, 1980, Journal of Computational and Applied Mathematics 6, 19; Hairer, Norsett and Wanner,
Solving Ordinary Differential Equations I, table II.5.2.
"""

BOGACKI_SHAMPINE = RungeKuttaPair(
    Tableau(
        c=(0, 1 / 2, 3 / 4, 1),
        a=((1 / 2,), (0, 3 / 4), (2 / 9, 1 / 3, 4 / 9)),
        b=(2 / 9, 1 / 3, 4 / 9, 0),
    ),
    error=(-5 / 72, 1 / 12, 1 / 9, -1 / 8),
    order=3,
)
"""Orders 3 and 2, three evaluations a step.

Sources: Bogacki and Shampine, 1989, Applied Mathematics Letters 2, 321; Hairer, Norsett and Wanner, Solving Ordinary
Differential Equations I, section II.5.
"""
