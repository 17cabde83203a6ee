"""DPM-Solver-2, singlestep."""

from dataclasses import dataclass
from typing import ClassVar

from sde_gen.solver._form import Form, NoiseForm
from sde_gen.solver._singlestep import ExponentialSolver


@dataclass(frozen=True, kw_only=True)
class DPMSolver2(ExponentialSolver):
    r"""The exponential midpoint rule in lam = log(alpha / sigma), in noise prediction.

    With m the time half-way from t to s in lam and h = lam_s - lam_t,

    .. math::
        u = \frac{\alpha_m}{\alpha_t} x_t - \sigma_m (e^{h/2} - 1)\, \hat\epsilon(x_t, t), \qquad
        x_s = \frac{\alpha_s}{\alpha_t} x_t - \sigma_s (e^h - 1)\, \hat\epsilon(u, m) .

    Source: Lu et al., 2022, arXiv:2206.00927, algorithm 1.
    """

    order: ClassVar[int] = 2
    stages: ClassVar[int] = 2
    form: ClassVar[type[Form]] = NoiseForm
    fractions: ClassVar[tuple[float, ...]] = (1 / 2,)
    through: ClassVar[tuple[tuple[int, ...], ...]] = ((0,), (1,))
