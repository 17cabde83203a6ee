"""DPM-Solver, multistep of order 2."""

from dataclasses import dataclass
from typing import ClassVar

from sde_gen.solver._form import Form, NoiseForm
from sde_gen.solver._weighted import WeightedMultistep


@dataclass(frozen=True, kw_only=True)
class DPMSolver2M(WeightedMultistep):
    r"""The two-step exponential integrator of the probability flow in noise prediction.

    With lam = log(alpha / sigma), h = lam_s - lam_t and h' the length of the step before,

    .. math::
        x_s = \frac{\alpha_s}{\alpha_t} x_t - \sigma_s (e^h - 1)\, \hat\epsilon
        - \sigma_s \frac{e^h - 1 - h}{h'} \left(\hat\epsilon - \hat\epsilon^{prev}\right) .

    Source: Lu et al., 2022, arXiv:2206.00927, eq. 3.4, with the derivative from past evaluations.

    Arguments:
        weights: a rule for the weights: of :mod:`~sde_gen.solver.multistep_weights`, or None for this package's,
            limited in long steps and with a corrected start.
    """

    points: ClassVar[int] = 2
    form: ClassVar[type[Form]] = NoiseForm
