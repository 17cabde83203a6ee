"""DPM-Solver-3, singlestep."""

from dataclasses import dataclass
from typing import ClassVar

from sde_gen.solver._form import Form, NoiseForm
from sde_gen.solver._singlestep import ExponentialSolver


@dataclass(frozen=True, kw_only=True)
class DPMSolver3(ExponentialSolver):
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
    stages: ClassVar[int] = 3
    form: ClassVar[type[Form]] = NoiseForm
    fractions: ClassVar[tuple[float, ...]] = (1 / 3, 2 / 3)
    through: ClassVar[tuple[tuple[int, ...], ...]] = ((0,), (0, 1), (0, 2))
