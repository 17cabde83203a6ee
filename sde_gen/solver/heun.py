"""Heun's method on the probability flow."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.dynamics import ProbabilityFlow
from sde_gen.noise import Noise
from sde_gen.solver.base import StepSolver


@dataclass(frozen=True, kw_only=True)
class Heun(StepSolver[None]):
    r"""The trapezoidal rule with an Euler predictor, on dx/dt = alpha' x_0 + sigma' eps.

    .. math::
        d_t = v(x_t, t), \quad d_s = v(x_t + (s - t) d_t, s), \quad
        x_s = x_t + \tfrac{1}{2} (s - t) (d_t + d_s)

    The last step is one like the others, since grids end at t_min > 0 where the velocity is finite.

    Source: Karras et al., 2022, arXiv:2206.00364, algorithm 1, in t instead of sigma.
    """

    order: ClassVar[int] = 2
    stochastic: ClassVar[bool] = False

    def step(
        self, model: Denoiser, x_t: Tensor, t: Tensor, s: Tensor, state: None, noise: Noise
    ) -> tuple[Tensor, None]:
        """One step."""
        del noise
        flow, h = ProbabilityFlow(model), s - t
        d_t = flow(x_t, t)
        d_s = flow(x_t + h * d_t, s)
        return x_t + 0.5 * h * (d_t + d_s), state

    def nfe(self, steps: int) -> int:
        """Two evaluations a step."""
        return 2 * steps
