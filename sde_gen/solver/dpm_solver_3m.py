"""DPM-Solver, multistep of order 3."""

from dataclasses import dataclass
from typing import ClassVar

from sde_gen.solver._form import Form, NoiseForm
from sde_gen.solver._weighted import WeightedMultistep


@dataclass(frozen=True, kw_only=True)
class DPMSolver3M(WeightedMultistep):
    r"""The three-step exponential integrator of the probability flow in noise prediction.

    The noise is the parabola in lam = log(alpha / sigma) through the last three evaluations, integrated exactly:

    .. math::
        x_s = \frac{\alpha_s}{\alpha_t} x_t - \sigma_s \int_{\lambda_t}^{\lambda_s} e^{\lambda_s - u} p(u)\, du

    The authors' code has the second divided difference, which tends to h^2 eps'' / 2, in the place of h^2 eps'',
    and is of order 2: ``weights=TaylorWeights()``.

    Source: Lu et al., 2022, arXiv:2206.00927, eq. 3.4, with the derivatives from past evaluations.

    Arguments:
        weights: a rule for the weights: of :mod:`~sde_gen.solver.multistep_weights`, or None for this package's,
            limited in long steps and with a corrected start.
    """

    points: ClassVar[int] = 3
    form: ClassVar[type[Form]] = NoiseForm
