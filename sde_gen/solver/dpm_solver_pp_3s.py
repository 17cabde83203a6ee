"""DPM-Solver++ (3S)."""

from dataclasses import dataclass
from typing import ClassVar

from sde_gen.solver._singlestep import ExponentialSolver


@dataclass(frozen=True, kw_only=True)
class DPMSolverPP3S(ExponentialSolver):
    r"""An exponential Runge-Kutta method of three stages in lam = log(alpha / sigma), in data prediction.

    With the times m and n at the fractions r_1 = 1/3 and r_2 = 2/3 from t to s in lam, with
    phi(h) = 1 - (1 - e^-h) / h and differences of predicted clean samples D against that at t,

    .. math::
        u_m &= \tfrac{\sigma_m}{\sigma_t} x_t + \alpha_m (1 - e^{-r_1 h})\, \hat{x}_{0,t} \\
        u_n &= \tfrac{\sigma_n}{\sigma_t} x_t + \alpha_n (1 - e^{-r_2 h})\, \hat{x}_{0,t}
               + \alpha_n \tfrac{r_2}{r_1} \phi(r_2 h)\, D_m \\
        x_s &= \tfrac{\sigma_s}{\sigma_t} x_t + \alpha_s (1 - e^{-h})\, \hat{x}_{0,t}
               + \alpha_s \tfrac{1}{r_2} \phi(h)\, D_n .

    On a grid with alpha = 0 lines in alpha / sigma take the place of lines in lam while alpha < sigma, which for
    short steps is Heun's method of order 3.

    Source: Lu et al., 2022, arXiv:2206.00927, algorithm 2, carried to data prediction by arXiv:2211.01095,
    proposition 4.1; Heun, 1900.
    """

    order: ClassVar[int] = 3
    stages: ClassVar[int] = 3
    fractions: ClassVar[tuple[float, ...]] = (1 / 3, 2 / 3)
    through: ClassVar[tuple[tuple[int, ...], ...]] = ((0,), (0, 1), (0, 2))
