"""DPM-Solver-1."""

from dataclasses import dataclass
from typing import ClassVar

from sde_gen.solver._form import Form, NoiseForm
from sde_gen.solver._singlestep import ExponentialSolver


@dataclass(frozen=True, kw_only=True)
class DPMSolver1(ExponentialSolver):
    r"""The first exponential integrator of the probability flow in noise prediction.

    .. math::
        x_s = \frac{\alpha_s}{\alpha_t} x_t - \sigma_s (e^h - 1)\, \hat\epsilon(x_t, t), \qquad
        h = \lambda_s - \lambda_t, \quad \lambda = \log(\alpha / \sigma)

    Equal to DDIM with eta = 0 in exact arithmetic.

    Source: Lu et al., 2022, arXiv:2206.00927, eq. 3.7.
    """

    order: ClassVar[int] = 1
    stages: ClassVar[int] = 1
    form: ClassVar[type[Form]] = NoiseForm
    fractions: ClassVar[tuple[float, ...]] = ()
    through: ClassVar[tuple[tuple[int, ...], ...]] = ((0,),)
