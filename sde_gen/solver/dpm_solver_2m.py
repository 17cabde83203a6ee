"""DPM-Solver, multistep of order 2."""

from dataclasses import dataclass
from typing import ClassVar

from sde_gen.solver._form import Form, NoiseForm
from sde_gen.solver._multistep import MultistepSolver


@dataclass(frozen=True, kw_only=True)
class DPMSolver2M(MultistepSolver):
    r"""The two-step exponential integrator of the probability flow in noise prediction.

    With lam = log(alpha / sigma), h = lam_s - lam_t and h' the length of the step before,

    .. math::
        x_s = \frac{\alpha_s}{\alpha_t} x_t - \sigma_s (e^h - 1)\, \hat\epsilon
        - \sigma_s \frac{e^h - 1 - h}{h'} \left(\hat\epsilon - \hat\epsilon^{prev}\right) .

    Source: Lu et al., 2022, arXiv:2206.00927, eq. 3.4, with the derivative from past evaluations.
    """

    order: ClassVar[int] = 2
    form: ClassVar[type[Form]] = NoiseForm
