"""DPM-Solver-2, singlestep."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.noise import Noise
from sde_gen.solver._exponential import NoisePredictionSolver, between, move, point


@dataclass(frozen=True, kw_only=True)
class DPMSolver2(NoisePredictionSolver):
    r"""The exponential midpoint rule in lam = log(alpha / sigma), in noise prediction.

    With m the time half-way from t to s in lam and h = lam_s - lam_t,

    .. math::
        u = \frac{\alpha_m}{\alpha_t} x_t - \sigma_m (e^{h/2} - 1)\, \hat\epsilon(x_t, t), \qquad
        x_s = \frac{\alpha_s}{\alpha_t} x_t - \sigma_s (e^h - 1)\, \hat\epsilon(u, m) .

    Source: Lu et al., 2022, arXiv:2206.00927, algorithm 1.
    """

    order: ClassVar[int] = 2

    def step(
        self, model: Denoiser, x_t: Tensor, t: Tensor, s: Tensor, state: None, noise: Noise
    ) -> tuple[Tensor, None]:
        """One step."""
        del noise
        a, b = point(model.sde, t), point(model.sde, s)
        m = between(model.sde, a, b, 1 / 2)
        u = move(x_t, a, m, model(x_t, t).eps)
        return move(x_t, a, b, model(u, m.t).eps), state

    def nfe(self, steps: int) -> int:
        """Two evaluations a step."""
        return 2 * steps
