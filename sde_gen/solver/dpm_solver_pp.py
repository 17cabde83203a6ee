"""DPM-Solver++ (2M)."""

from dataclasses import dataclass
from typing import ClassVar

from sde_gen.solver._form import Form
from sde_gen.solver._weighted import WeightedMultistep
from sde_gen.solver.unipc import BH2Form


@dataclass(frozen=True, kw_only=True)
class DPMSolverPP(WeightedMultistep):
    r"""The two-step exponential integrator of the probability flow in data prediction.

    With lam = log(alpha / sigma), h = lam_s - lam_t and h' the length of the step before,

    .. math::
        D = \hat{x}_0(x_t, t) + \frac{h}{2 h'} \left(\hat{x}_0(x_t, t) - \hat{x}_0^{prev}\right), \qquad
        x_s = \frac{\sigma_s}{\sigma_t} x_t + \alpha_s (1 - e^{-h}) D .

    The first step takes D = x_0. Its error is of order 2 and made once, so the method is of order 2.
    A start where alpha is zero is a step with h infinite: it keeps the noise and takes x_0 as predicted.
    It is the predictor of UniPC with p = 2 and B(h) = e^h - 1.

    Source: Lu et al., 2022, arXiv:2211.01095, algorithm 2.

    Arguments:
        weights: a rule for the weights: of :mod:`~sde_gen.solver.multistep_weights`, or None for this package's,
            limited in long steps and with a corrected start.
    """

    points: ClassVar[int] = 2
    form: ClassVar[type[Form]] = BH2Form
