"""DPM-Solver-1."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.noise import Noise
from sde_gen.solver._exponential import NoisePredictionSolver, move, point


@dataclass(frozen=True, kw_only=True)
class DPMSolver1(NoisePredictionSolver):
    r"""The first exponential integrator of the probability flow in noise prediction.

    .. math::
        x_s = \frac{\alpha_s}{\alpha_t} x_t - \sigma_s (e^h - 1)\, \hat\epsilon(x_t, t), \qquad
        h = \lambda_s - \lambda_t, \quad \lambda = \log(\alpha / \sigma)

    Equal to DDIM with eta = 0 in exact arithmetic.

    Source: Lu et al., 2022, arXiv:2206.00927, eq. 3.7.
    """

    order: ClassVar[int] = 1

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
