"""What adaptive solvers share: every sample takes steps of its own, until it leaves the batch."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.noise import NO_NOISE, Noise
from sde_gen.ode import EmbeddedPair, PerSampleStepper
from sde_gen.solver.base import Solver, check_times
from sde_gen.solver.callbacks import Hook, StepInfo


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
class AdaptiveSolver(EmbeddedPair[Denoiser], Solver):
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

    stochastic: ClassVar[bool] = False

    @torch.no_grad()
    def solve(
        self,
        model: Denoiser,
        x: Tensor,
        times: Tensor,
        *,
        noise: Noise = NO_NOISE,
        hooks: Iterable[Hook] = (),
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
        walk = PerSampleStepper(self, model, x, times)
        states = x.repeat(len(times), *[1] * x.ndim) if path else None
        while len(walk.select):
            walk.look()
            span = walk.propose()
            attempt = self.attempt(walk.here, walk.x[walk.select], walk.slope[walk.select], span)
            error = walk.check_error(attempt, span)
            if states is not None:
                walk.record(attempt, span, error, states)
            walk.move(attempt, span, error)
        if states is not None:
            states[-1] = walk.x
        return Solution(walk.x, walk.nfe, walk.rejected, states)
