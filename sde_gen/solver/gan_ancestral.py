"""Ancestral sampling with x_0 drawn by a generator."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.noise import Noise
from sde_gen.solver._validation import require_descent
from sde_gen.solver.base import StepSolver


@dataclass(frozen=True, kw_only=True)
class GANAncestral(StepSolver[float]):
    r"""One evaluation of a generator a step, exact for the exact p(x_0 | x_t) whatever the step.

    .. math::
        \hat{x}_0 \sim p(x_0 | x_t), \qquad x_s \sim q(x_s | x_t, \hat{x}_0)

    The last step ends at the data, x_0 itself.

    Source: Xiao et al., 2022, arXiv:2112.07804, eq. 6.
    """

    order: ClassVar[int] = 1
    stochastic: ClassVar[bool] = True
    needs_denoiser: ClassVar[bool] = False
    pathwise: ClassVar[bool] = False

    def init(self, model: Denoiser, x: Tensor, times: Tensor) -> float:
        """Return the last time."""
        del model, x
        return float(times[-1])

    def reinit(self, model: Denoiser, x: Tensor, times: Tensor, state: float) -> float:
        """Return the last time of the whole grid, which replaced samples do not change."""
        del model, x, times
        return state

    def check(self, model: Denoiser, times: Tensor) -> None:
        """Raise ValueError for ascending times."""
        del model
        require_descent(type(self).__name__, times)

    def nfe(self, steps: int) -> int:
        """Return the number of evaluations: one per step."""
        return steps

    def step(
        self, model: Denoiser, x_t: Tensor, t: Tensor, s: Tensor, state: float, noise: Noise
    ) -> tuple[Tensor, float]:
        """Draw x_0, and x_s of the posterior; in the last step x_0 itself."""
        x0 = model.draw(x_t, t, noise)
        if float(s) == state:
            return x0, state
        c_t, c_0, std = model.sde.posterior(t, s)
        return c_t * x_t + c_0 * x0 + std * noise(x_t, float(t), float(s)), state
