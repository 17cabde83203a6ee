"""What adaptive solvers share: every sample takes steps of its own, until it leaves the batch."""

import abc
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.hooks import Hook, StepInfo
from sde_gen.noise import Noise
from sde_gen.solver._clock import Variable
from sde_gen.solver.base import Solver, check_times

SAFETY, SHRINK, GROW = 0.9, 0.2, 5.0
"""Safety factor of a new step's length, and the least and the most that it is of the old one's."""

LEAST = 1e-4
"""Errors of a step below this count as this for the next: a step that was too good is no reason for a long one."""

SMALLEST = 1e-10
"""Steps shorter than this part of the whole way are given up."""


class Span(NamedTuple):
    """Steps of b samples: from u to v in the variable, from t to s in time, float64 on the CPU with shape (b,)."""

    u: Tensor
    v: Tensor
    t: Tensor
    s: Tensor


class Attempt(NamedTuple):
    """Where steps of b samples end.

    Arguments:
        x: samples at the ends with shape (b, *event).
        error: estimated errors over the tolerance with shape (b,).
        slope: what the method keeps of the evaluation at the ends, if it has made one, with shape (b, *event).
        inside: samples (b, *event) at one variable and time, with shape (), for those whose steps contain it.
    """

    x: Tensor
    error: Tensor
    slope: Tensor | None
    inside: Callable[[Tensor, Tensor], Tensor]


class Solution(NamedTuple):
    """What an adaptive solver found, and what it took.

    Arguments:
        x: samples at the last time with shape (B, *event).
        nfe: evaluations made for every sample, with shape (B,).
        rejected: steps of every sample that were not good enough, with shape (B,).
        path: samples at all times with shape (steps + 1, B, *event), if they were asked for.
    """

    x: Tensor
    nfe: Tensor
    rejected: Tensor
    path: Tensor | None


@dataclass(frozen=True, kw_only=True)
class AdaptiveSolver(Solver):
    r"""A deterministic solver that goes from a grid's first time to its last by steps of its own, sample by sample.

    With an estimate E ~ h^q of a step's error over the tolerance, and E' that of the step before, the next length is

    .. math::
        h \leftarrow h \min\big(5, \max(0.2,\; 0.9\, E^{-0.7 / q} E'^{\,0.4 / q})\big)

    where E <= 1. Elsewhere the step is tried again with the length 0.9 h E^(-1 / q). Nothing is shared between samples,
    so none depends on its batch. Those that have arrived leave it: the denoiser is asked for the others only, at
    times of shape (b,).

    Hooks are called at the end, with samples interpolated at the grid's times, which costs no evaluation.

    Source: Gustafsson, 1991, ACM Transactions on Mathematical Software 17, 4; Hairer and Wanner, 1996, Solving Ordinary
    Differential Equations II, section IV.2.

    Arguments:
        rtol: relative tolerance.
        atol: absolute tolerance.
        max_steps: most steps tried for one sample.

    Raises:
        ValueError: a tolerance is not positive, or max_steps is below 1.
    """

    rtol: float
    atol: float
    max_steps: int = 1000
    stochastic: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the constructor's arguments."""
        if not (0 < self.rtol < math.inf and 0 < self.atol < math.inf):
            raise ValueError(f"rtol={self.rtol}, atol={self.atol}: tolerances must be positive and finite")
        if self.max_steps < 1:
            raise ValueError(f"max_steps={self.max_steps}: at least one step is needed")

    @property
    @abc.abstractmethod
    def exponent(self) -> int:
        """The q of the error's estimate."""

    @property
    @abc.abstractmethod
    def stages(self) -> int:
        """Evaluations of an attempt, without that at its begin."""

    @abc.abstractmethod
    def variable(self, model: Denoiser) -> Variable:
        """The variable in which steps are taken."""

    @abc.abstractmethod
    def first(self, whole: float) -> float:
        """Length of the first step tried, of the whole way in the variable."""

    @abc.abstractmethod
    def slope(self, model: Denoiser, x: Tensor, t: Tensor) -> Tensor:
        """What the method keeps of the evaluation at times t (b,), with shape (b, *event)."""

    @abc.abstractmethod
    def attempt(self, model: Denoiser, x: Tensor, slope: Tensor, span: Span) -> Attempt:
        """Try a step of every sample."""

    @torch.no_grad()
    def solve(
        self, model: Denoiser, x: Tensor, times: Tensor, *, noise: Noise, hooks: Iterable[Hook] = ()
    ) -> Tensor:
        """Go from the first time to the last.

        Raises:
            FloatingPointError: the denoiser returned NaN, or the tolerances are out of reach.
        """
        del noise
        hooks = tuple(hooks)
        solution, steps = self.integrate(model, x, times, path=bool(hooks)), len(times) - 1
        if solution.path is not None:
            for index in range(steps):
                ends = float(times[index]), float(times[index + 1])
                for hook in hooks:
                    hook(StepInfo(index, steps, *ends, solution.path[index], solution.path[index + 1]))
        return solution.x

    @torch.no_grad()
    def integrate(self, model: Denoiser, x: Tensor, times: Tensor, *, path: bool = False) -> Solution:
        """Go from the first time to the last, and say what it took.

        Arguments:
            model: the denoiser, conditioning bound.
            x: samples at times[0] with shape (B, *event).
            times: monotone times, float64 on the CPU with shape (steps + 1,).
            path: whether to interpolate the samples at all of the times.

        Raises:
            FloatingPointError: the denoiser returned NaN, or the tolerances are out of reach.
        """
        check_times(times)
        self.check(model, times)
        walk = _Walk(self, model, x, times)
        states = x.repeat(len(times), *[1] * x.ndim) if path else None
        while len(walk.rows):
            walk.look()
            span = walk.span()
            attempt = self.attempt(walk.here, walk.x[walk.rows], walk.slope[walk.rows], span)
            error = walk.judge(attempt, span)
            if states is not None:
                walk.record(attempt, span, error, states)
            walk.move(attempt, span, error)
        if states is not None:
            states[-1] = walk.x
        return Solution(walk.x, walk.nfe, walk.rejected, states)


class _Walk:
    """Where all samples are.

    Attributes:
        rows: indices of those under way.
        here: the denoiser for them.
    """

    def __init__(self, solver: AdaptiveSolver, model: Denoiser, x: Tensor, times: Tensor) -> None:
        self.solver, self.model, self.times = solver, model, times
        self.variable = solver.variable(model)
        self.knots = self.variable.read(times)
        self.whole = float((self.knots[-1] - self.knots[0]).abs())
        count = len(x)
        self.x, self.slope, self.known = x.clone(), torch.empty_like(x), torch.zeros(count, dtype=torch.bool)
        self.u, self.t = self.knots[0].repeat(count), times[0].repeat(count)
        self.h = torch.full_like(self.u, min(solver.first(self.whole), self.whole))
        self.before = torch.ones_like(self.u)
        self.nfe, self.rejected = (torch.zeros(count, dtype=torch.long) for _ in range(2))
        self.rows, self.here, self.tried = torch.arange(count), model, 0

    def look(self) -> None:
        """Evaluate where that has not been done."""
        new = self.rows[~self.known[self.rows]]
        if len(new):
            model = self.here if len(new) == len(self.rows) else self.model.rows(new, len(self.x))
            self.slope[new] = self.solver.slope(model, self.x[new], self.t[new])
            self.known[new] = True
            self.nfe[new] += 1

    def span(self) -> Span:
        """The steps to try."""
        u, t, end = self.u[self.rows], self.t[self.rows], self.knots[-1]
        h = self.h[self.rows]
        last = (end - u).abs() <= 1.001 * h
        v = torch.where(last, end, u + torch.copysign(h, end - u))
        low, high = sorted((float(self.times[0]), float(self.times[-1])))
        s = torch.where(last, self.times[-1], self.variable.time(v).clamp(low, high))
        return Span(u, v, t, s)

    def judge(self, attempt: Attempt, span: Span) -> Tensor:
        """The errors, float64 on the CPU with shape (b,), unless it is time to give up."""
        name, error = type(self.solver).__name__, attempt.error.double().cpu()
        self.nfe[self.rows] += self.solver.stages
        self.tried += 1
        wrong = ~error.isfinite()
        if bool(wrong.any()):
            raise FloatingPointError(
                f"{name} left the finite numbers in step {self.tried}, from t={float(span.t[wrong][0]):.6g} to "
                f"s={float(span.s[wrong][0]):.6g}, in samples {self.rows[wrong].tolist()[:8]}: the denoiser returned "
                "NaN or infinity there"
            )
        stuck = (error > 1) & ((span.v - span.u).abs() <= SMALLEST * self.whole)
        if self.tried == self.solver.max_steps:
            stuck |= (error > 1) | (span.v != self.knots[-1])
        if bool(stuck.any()):
            raise FloatingPointError(
                f"{name} gave up after {self.tried} steps at t={float(span.t[stuck][0]):.6g}, in samples "
                f"{self.rows[stuck].tolist()[:8]}, with rtol={self.solver.rtol}, atol={self.solver.atol} and "
                f"max_steps={self.solver.max_steps}; give larger tolerances, more max_steps, or float64 samples"
            )
        return error

    def record(self, attempt: Attempt, span: Span, error: Tensor, states: Tensor) -> None:
        """Interpolate at the times that lie in the steps."""
        for k in range(1, len(self.times) - 1):
            knot = self.knots[k]
            inside = ((span.u - knot) * (span.v - knot) <= 0) & (span.u != knot)
            found = (inside & (error <= 1)).nonzero().flatten()
            if len(found):
                states[k, self.rows[found]] = attempt.inside(knot, self.times[k])[found]

    def move(self, attempt: Attempt, span: Span, error: Tensor) -> None:
        """Go on where a step was good enough, choose the next lengths, and let go of those that have arrived."""
        good, q = error <= 1, self.solver.exponent
        longer = error ** (-0.7 / q) * self.before[self.rows] ** (0.4 / q)
        factor = (SAFETY * torch.where(good, longer, error ** (-1 / q))).clamp(SHRINK, GROW)
        self.h[self.rows] = (span.v - span.u).abs() * factor
        self.before[self.rows[good]] = error[good].clamp(min=LEAST)
        self.rejected[self.rows[~good]] += 1
        moved, kept = self.rows[good], good.nonzero().flatten()
        self.x[moved], self.u[moved], self.t[moved] = attempt.x[kept], span.v[kept], span.s[kept]
        self.known[moved] = attempt.slope is not None
        if attempt.slope is not None:
            self.slope[moved] = attempt.slope[kept]
        arrived = good & (span.v == self.knots[-1])
        if bool(arrived.any()):
            self.rows = self.rows[~arrived]
            self.here = self.model.rows(self.rows, len(self.x))
