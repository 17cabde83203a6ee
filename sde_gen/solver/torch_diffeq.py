"""Methods of torchdiffeq on the probability flow."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.denoiser.dynamics import ProbabilityFlow
from sde_gen.noise import NO_NOISE, Noise
from sde_gen.ode.torch_diffeq import ADAPTIVE, FIXED, Method
from sde_gen.solver._validation import require_finite_velocity
from sde_gen.solver.base import Solver, check_times
from sde_gen.solver.callbacks import Hook, StepInfo


@dataclass(frozen=True, kw_only=True)
class TorchDiffEq(Solver):
    """A Runge-Kutta method of the torchdiffeq package on the probability flow.

    Fixed methods step through the grid. Adaptive methods choose their own steps between its two ends and,
    where hooks watch, interpolate at its times; hooks are called when the integration is done.

    Sources: Chen, 2018, https://github.com/rtqichen/torchdiffeq;
    Song et al., 2021, arXiv:2011.13456, section 4.3.

    Arguments:
        method: dopri5, dopri8, bosh3, adaptive_heun or fehlberg2, which are adaptive; or euler, midpoint,
            heun2, heun3 or rk4, which step through the grid.
        rtol: relative tolerance of adaptive methods.
        atol: absolute tolerance of adaptive methods.

    Raises:
        ValueError: unknown method, or a tolerance that is not positive.
    """

    method: str = "dopri5"
    rtol: float = 1e-5
    atol: float = 1e-5

    def __post_init__(self) -> None:
        """Check the constructor's arguments."""
        self._method()

    def _method(self) -> Method:
        return Method(method=self.method, rtol=self.rtol, atol=self.atol)

    @property
    def stochastic(self) -> bool:
        """It draws no noise."""
        return False

    @property
    def batch_coupled(self) -> bool:
        """Whether the method is adaptive: the error's norm is over the whole batch."""
        return self.method in ADAPTIVE

    def nfe(self, steps: int) -> int | None:
        """Evaluations of fixed methods; None for adaptive ones."""
        return steps * FIXED[self.method] if self.method in FIXED else None

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
            FloatingPointError: the velocity is not finite, or no step is small enough.
        """
        del noise
        check_times(times)
        flow, hooks = ProbabilityFlow(model), tuple(hooks)
        knots = times if hooks else times[[0, -1]]

        def field(t: Tensor, y: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            velocity = flow(y[0], t)
            require_finite_velocity(velocity, float(t))
            return (velocity,)

        # torchdiffeq's norm of an empty batch is NaN
        path = (
            self._method().paths(field, (x,), times, knots)[0] if len(x) else x.expand(len(knots), *x.shape)
        )
        for index in range(len(knots) - 1):
            info = StepInfo(
                index,
                len(knots) - 1,
                float(knots[index]),
                float(knots[index + 1]),
                path[index],
                path[index + 1],
            )
            for hook in hooks:
                hook(info)
        return path[-1]
