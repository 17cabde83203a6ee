"""The base of adaptive solvers with an embedded pair."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.noise import NO_NOISE, Noise
from sde_gen.ode import DenseOutput, EmbeddedPair, PIController, Solution, integrate_adaptive
from sde_gen.solver.base import Solver, check_times
from sde_gen.solver.callbacks import Hook, call_hooks


@dataclass(frozen=True, kw_only=True)
class AdaptiveSolver(EmbeddedPair[Denoiser], Solver):
    """A deterministic solver with per-sample adaptive step sizes between the two ends of a grid.

    Finished samples leave the batch, and none depends on the others; step sizes: :class:`~sde_gen.ode.PIController`.
    Hooks are called after the integration, with samples interpolated at the grid's times, without evaluations.

    Arguments:
        rtol: relative tolerance.
        atol: absolute tolerance.
        max_steps: most steps attempted for one sample.

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
        """Integrate from the first time to the last.

        Raises:
            FloatingPointError: the denoiser returned NaN, or the tolerances are out of reach.
        """
        del noise
        hooks = tuple(hooks)
        output = DenseOutput(self.variable(model), x, times) if hooks else None
        solution = self.integrate(model, x, times, output)
        if output is not None:
            call_hooks(hooks, times, list(output.states))
        return solution.x

    @torch.no_grad()
    def integrate(
        self, model: Denoiser, x: Tensor, times: Tensor, output: DenseOutput | None = None
    ) -> Solution:
        """Integrate from the first time to the last, counting evaluations and rejected steps.

        Arguments:
            model: the denoiser, conditioning bound.
            x: samples at times[0] with shape (B, *event).
            times: monotone times, float64 on the CPU with shape (steps + 1,).
            output: receives the samples at all of the times.

        Raises:
            FloatingPointError: the denoiser returned NaN, or the tolerances are out of reach.
        """
        check_times(times)
        self.check(model, times)
        controller = PIController(error_order=self.error_order)
        return integrate_adaptive(self, model, x, times, controller=controller, on_accept=output)
