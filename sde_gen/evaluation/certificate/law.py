"""The law of a stochastic solver on Gaussian data, to rounding and without Monte Carlo.

The exact denoiser of one Gaussian is affine in x, so a solver that uses it linearly is affine in its start
and its noise, x_end = b + A x_start + sum_k B_k z_k. One batch reads all of it off: a row of zeros for b,
unit starts for A, and for every B_k rows whose noise is a unit impulse in draw k. A last row with everything
at random checks the superposition, and so that the solver is affine and its rows independent.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from sde_gen.denoiser import Denoiser, GaussianDenoiser
from sde_gen.evaluation.certificate import oracles
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
    """The exact denoiser of the data."""
    return GaussianDenoiser(sde=sde, mean=data.mean, cov=data.cov)


def marginal(sde: SDE, t: Tensor, data: GaussianMoments = DATA) -> GaussianMoments:
    """The exact law of x_t."""
    alpha, sigma = sde.alpha(t), sde.sigma(t)
    return GaussianMoments(
        alpha * data.mean, alpha**2 * data.cov + sigma**2 * torch.eye(len(data.mean), dtype=torch.float64)
    )


class NotAffine(Exception):
    """The solver's law cannot be read off, which an affine solver's can."""


class Impulses:
    """Noise that is zero but for one unit impulse per row, and random in the last row.

    Arguments:
        first: the row of the first draw's first impulse.
        width: coordinates of a draw.

    Attributes:
        intervals: the intervals of the path that were asked for.
        random: the last row's draws.
    """

    def __init__(self, first: int, width: int) -> None:
        self.first, self.width = first, width
        self.intervals: list[tuple[float, float]] = []
        self.random: list[Tensor] = []
        self._source = IID.seeded(1)

    def __call__(self, x: Tensor, u0: float, u1: float) -> Tensor:
        """Draw, and remember the interval."""
        self.intervals.append((u0, u1))
        return self.normal(x)

    def normal(self, x: Tensor) -> Tensor:
        """Zero but for this draw's impulses and the last row."""
        z, row = torch.zeros_like(x), self.first + self.width * len(self.random)
        self.random.append(self._source.normal(x[:1])[0])
        if row < len(x) - 1:  # false in the rehearsal, which only counts draws
            z[row : row + self.width] = torch.eye(self.width, dtype=x.dtype).reshape(-1, *x.shape[1:])
        z[-1] = self.random[-1]
        return z

    def uniform(self, x: Tensor) -> Tensor:
        """Refuse: the law would not be Gaussian."""
        raise NotAffine("the solver draws uniform numbers")


def through(solver: Solver, model: Denoiser, times: Tensor, start: GaussianMoments) -> GaussianMoments:
    """The law of the solver's output for a Gaussian start."""
    width = len(start.mean)
    rehearsal = Impulses(1, width)
    solver.solve(model, start.mean[None], times, noise=rehearsal)
    draws = len(rehearsal.random)

    noise = Impulses(1 + width, width)
    x = start.mean.repeat(2 + width + width * draws, 1)
    x[1 : 1 + width] += torch.eye(width, dtype=x.dtype)
    x[-1] += torch.tensor([0.3, -0.7], dtype=x.dtype)
    end = solver.solve(model, x, times, noise=noise)
    if len(noise.random) != draws:
        raise NotAffine("the number of draws depends on the samples")
    check_intervals(noise.intervals, times)
    columns = end[1:-1] - end[0]
    weights = torch.cat([x[-1] - x[0], *noise.random])
    if not torch.allclose(end[-1], end[0] + weights @ columns, rtol=1e-9, atol=1e-9):
        raise NotAffine("the solver is not affine in its start and its noise, or its samples meet")
    a, b = columns[:width], columns[width:]
    return GaussianMoments(end[0], a.T @ start.cov @ a + b.T @ b)


def check_intervals(intervals: list[tuple[float, float]], times: Tensor) -> None:
    """A Brownian motion's increments are independent only over intervals that do not overlap."""
    for u0, u1 in intervals:
        if not float(times[-1]) <= u1 < u0 <= float(times[0]):
            raise NotAffine(f"the path was asked from {u0} to {u1}, outside the grid or upwards")
    for (_, u1), (v0, _) in pairwise(intervals):
        if v0 > u1:
            raise NotAffine(f"the path was asked twice between {u1} and {v0}")


def gap(sde: SDE, t: Tensor, law: GaussianMoments, data: GaussianMoments = DATA) -> tuple[float, float]:
    """Errors of mean and covariance against the marginal at t, in x / alpha."""
    exact, alpha = marginal(sde, t, data), sde.alpha(t)
    mean, cov = (law.mean - exact.mean) / alpha, (law.cov - exact.cov) / alpha**2
    return float(mean.norm()), float(cov.norm())


def errors(solver: Solver, sde: SDE, times: Tensor, data: GaussianMoments = DATA) -> tuple[float, float]:
    """Errors of mean and covariance at the end of a grid, from the exact marginal at its start."""
    end = through(solver, denoiser(sde, data), times, marginal(sde, times[0], data))
    return gap(sde, times[-1], end, data)
