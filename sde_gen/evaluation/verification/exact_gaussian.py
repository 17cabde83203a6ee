"""Mean and covariance of a stochastic solver on Gaussian data, to rounding and without Monte Carlo.

The exact denoiser of one Gaussian is affine in x, so a solver that uses it linearly is affine in its start
and its noise, x_end = b + A x_start + sum_k B_k z_k. One batch determines all coefficients: a row of zeros gives b,
unit starts give A, and rows whose noise is a unit impulse in draw k give B_k. A last row of random start and noise
checks the superposition: that the solver is affine and its rows are independent.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from sde_gen.denoiser import Denoiser, GaussianDenoiser
from sde_gen.evaluation.verification import oracles
from sde_gen.noise import IID
from sde_gen.sde import SDE
from sde_gen.solver import Solver


class GaussianMoments(NamedTuple):
    """Mean (D,) and covariance (D, D)."""

    mean: Tensor
    cov: Tensor


DATA = GaussianMoments(torch.tensor(oracles.GAUSSIAN.means[0]), torch.tensor(oracles.GAUSSIAN.covs[0]))
POINT = GaussianMoments(DATA.mean, torch.zeros(2, 2, dtype=torch.float64))
WHITE = GaussianMoments(torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64))


def denoiser(sde: SDE, data: GaussianMoments = DATA) -> Denoiser:
    """Return the exact denoiser of the data."""
    return GaussianDenoiser(sde=sde, mean=data.mean, cov=data.cov)


def marginal(sde: SDE, t: Tensor, data: GaussianMoments = DATA) -> GaussianMoments:
    """Return the exact moments of x_t."""
    alpha, sigma = sde.alpha(t), sde.sigma(t)
    return GaussianMoments(
        alpha * data.mean, alpha**2 * data.cov + sigma**2 * torch.eye(len(data.mean), dtype=torch.float64)
    )


class NotAffineError(Exception):
    """The solver is not affine in its start and its noise."""


class Impulses:
    """Noise that is zero but for one unit impulse per row, and random in the last row.

    Arguments:
        first: the row of the first draw's first impulse.
        width: coordinates of a draw.

    Attributes:
        intervals: requested intervals of the Brownian path.
        random: draws of the last row.
    """

    def __init__(self, first: int, width: int) -> None:
        self.first, self.width = first, width
        self.intervals: list[tuple[float, float]] = []
        self.random: list[Tensor] = []
        self._source = IID.seeded(1)

    def __call__(self, x: Tensor, u0: float, u1: float) -> Tensor:
        """Draw noise and record the interval."""
        self.intervals.append((u0, u1))
        return self.normal(x)

    def normal(self, x: Tensor) -> Tensor:
        """Return the unit impulses of this draw, random noise in the last row and zeros elsewhere."""
        z, row = torch.zeros_like(x), self.first + self.width * len(self.random)
        self.random.append(self._source.normal(x[:1])[0])
        if row < len(x) - 1:  # else the pass only counts draws
            z[row : row + self.width] = torch.eye(self.width, dtype=x.dtype).reshape(-1, *x.shape[1:])
        z[-1] = self.random[-1]
        return z

    def uniform(self, x: Tensor) -> Tensor:
        """Raise NotAffineError: uniform numbers make the output non-Gaussian."""
        raise NotAffineError("the solver draws uniform numbers")


def propagate(solver: Solver, model: Denoiser, times: Tensor, start: GaussianMoments) -> GaussianMoments:
    """Return the moments of the solver's output for a Gaussian start."""
    width, usual = len(start.mean), 2 * len(times)
    draws = usual  # rows for them cost little, a pass that only counts draws as much as one more
    while True:
        noise = Impulses(1 + width, width)
        x = start.mean.repeat(2 + width + width * draws, 1)
        x[1 : 1 + width] += torch.eye(width, dtype=x.dtype)
        x[-1] += torch.tensor([0.3, -0.7], dtype=x.dtype)
        end = solver.solve(model, x, times, noise=noise)
        if len(noise.random) <= draws:
            break
        if draws > usual:
            raise NotAffineError("the number of draws depends on the samples")
        draws = len(noise.random)
    check_intervals(noise.intervals, times)
    weights = torch.cat([x[-1] - x[0], *noise.random])
    columns = end[1 : 1 + len(weights)] - end[0]
    if not torch.allclose(end[-1], end[0] + weights @ columns, rtol=1e-9, atol=1e-9):
        raise NotAffineError("the solver is not affine in its start and its noise, or couples its samples")
    a, b = columns[:width], columns[width:]
    return GaussianMoments(end[0], a.T @ start.cov @ a + b.T @ b)


def check_intervals(intervals: list[tuple[float, float]], times: Tensor) -> None:
    """Raise NotAffineError if intervals overlap: only increments over disjoint intervals are independent."""
    for u0, u1 in intervals:
        if not float(times[-1]) <= u1 < u0 <= float(times[0]):
            raise NotAffineError(f"noise requested from {u0} to {u1}, outside the grid or increasing in time")
    for (_, u1), (v0, _) in pairwise(intervals):
        if v0 > u1:
            raise NotAffineError(f"noise requested twice between {u1} and {v0}")


def moment_errors(
    sde: SDE, t: Tensor, moments: GaussianMoments, data: GaussianMoments = DATA
) -> tuple[float, float]:
    """Return the errors of mean and covariance against the marginal at t, in x / alpha."""
    exact, alpha = marginal(sde, t, data), sde.alpha(t)
    mean, cov = (moments.mean - exact.mean) / alpha, (moments.cov - exact.cov) / alpha**2
    return float(mean.norm()), float(cov.norm())


def errors(solver: Solver, sde: SDE, times: Tensor, data: GaussianMoments = DATA) -> tuple[float, float]:
    """Return the errors of mean and covariance at the end of a grid, from the exact marginal at its start."""
    end = propagate(solver, denoiser(sde, data), times, marginal(sde, times[0], data))
    return moment_errors(sde, times[-1], end, data)
