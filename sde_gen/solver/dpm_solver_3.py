"""DPM-Solver-3, singlestep."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.noise import Noise
from sde_gen.solver._exponential import NoisePredictionSolver, bend, between, move, point


@dataclass(frozen=True, kw_only=True)
class DPMSolver3(NoisePredictionSolver):
    r"""An exponential Runge-Kutta method of three stages in lam = log(alpha / sigma), in noise prediction.

    With the times m and n at the fractions r_1 = 1/3 and r_2 = 2/3 from t to s in lam, with
    phi(h) = (e^h - 1) / h - 1 and differences of predicted noise D against that at t,

    .. math::
        u_m &= \tfrac{\alpha_m}{\alpha_t} x_t - \sigma_m (e^{r_1 h} - 1)\, \hat\epsilon_t \\
        u_n &= \tfrac{\alpha_n}{\alpha_t} x_t - \sigma_n (e^{r_2 h} - 1)\, \hat\epsilon_t
               - \sigma_n \tfrac{r_2}{r_1} \phi(r_2 h)\, D_m \\
        x_s &= \tfrac{\alpha_s}{\alpha_t} x_t - \sigma_s (e^h - 1)\, \hat\epsilon_t
               - \sigma_s \tfrac{1}{r_2} \phi(h)\, D_n .

    Every step has three evaluations, the last one too: any number of steps will do.

    Source: Lu et al., 2022, arXiv:2206.00927, algorithm 2.
    """

    order: ClassVar[int] = 3

    def step(
        self, model: Denoiser, x_t: Tensor, t: Tensor, s: Tensor, state: None, noise: Noise
    ) -> tuple[Tensor, None]:
        """One step."""
        del noise
        a, b = point(model.sde, t), point(model.sde, s)
        m, n = between(model.sde, a, b, 1 / 3), between(model.sde, a, b, 2 / 3)
        eps = model(x_t, t).eps
        d_m = model(move(x_t, a, m, eps), m.t).eps - eps
        d_n = model(move(x_t, a, n, eps) + bend(x_t, a, n, 2 * d_m), n.t).eps - eps
        return move(x_t, a, b, eps) + bend(x_t, a, b, 1.5 * d_n), state

    def nfe(self, steps: int) -> int:
        """Three evaluations a step."""
        return 3 * steps
