"""DPM-Solver-1."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.noise import Noise
from sde_gen.solver._exponential import move, point, require_signal
from sde_gen.solver.base import StepSolver


@dataclass(frozen=True, kw_only=True)
class DPMSolver1(StepSolver[None]):
    r"""The first exponential integrator of the probability flow in noise prediction.

    .. math::
        x_s = \frac{\alpha_s}{\alpha_t} x_t - \sigma_s (e^h - 1)\, \hat\epsilon(x_t, t), \qquad
        h = \lambda_s - \lambda_t, \quad \lambda = \log(\alpha / \sigma)

    Equal to DDIM with eta = 0 in exact arithmetic.

    Source: Lu et al., 2022, arXiv:2206.00927, eq. 3.7.
    """

    order: ClassVar[int] = 1
    stochastic: ClassVar[bool] = False

    def check(self, model: Denoiser, times: Tensor) -> None:
        """Refuse a start without signal."""
        require_signal(type(self).__name__, model, times)

    def step(
        self, model: Denoiser, x_t: Tensor, t: Tensor, s: Tensor, state: None, noise: Noise
    ) -> tuple[Tensor, None]:
        """One step."""
        del noise
        a, b = point(model.sde, t), point(model.sde, s)
        return move(x_t, a, b, model(x_t, t).eps), state

    def nfe(self, steps: int) -> int:
        """One evaluation a step."""
        return steps
