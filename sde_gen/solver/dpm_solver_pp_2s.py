"""DPM-Solver++ (2S)."""

from dataclasses import dataclass
from typing import ClassVar

from sde_gen.solver._singlestep import ExponentialSolver


@dataclass(frozen=True, kw_only=True)
class DPMSolverPP2S(ExponentialSolver):
    r"""The exponential midpoint rule in lam = log(alpha / sigma), in data prediction.

    With m the time half-way from t to s in lam and h = lam_s - lam_t,

    .. math::
        u = \frac{\sigma_m}{\sigma_t} x_t + \alpha_m (1 - e^{-h/2})\, \hat{x}_0(x_t, t), \qquad
        x_s = \frac{\sigma_s}{\sigma_t} x_t + \alpha_s (1 - e^{-h})\, \hat{x}_0(u, m) .

    On a grid with alpha = 0 the middle is that of alpha / sigma while alpha < sigma: order 2 from there too.

    Source: Lu et al., 2022, arXiv:2211.01095, algorithm 1 with r = 1/2.
    """

    order: ClassVar[int] = 2
    stages: ClassVar[int] = 2
    fractions: ClassVar[tuple[float, ...]] = (1 / 2,)
    through: ClassVar[tuple[tuple[int, ...], ...]] = ((0,), (1,))
