"""DPM-Solver++ (3M)."""

from dataclasses import dataclass
from typing import ClassVar

from sde_gen.solver._form import DataForm, Form
from sde_gen.solver._weighted import WeightedMultistep


@dataclass(frozen=True, kw_only=True)
class DPMSolverPP3M(WeightedMultistep):
    r"""The three-step exponential integrator of the probability flow in data prediction.

    The clean sample is the parabola in lam = log(alpha / sigma) through the last three evaluations, integrated
    exactly:

    .. math::
        x_s = \frac{\sigma_s}{\sigma_t} x_t + \alpha_s \int_{\lambda_t}^{\lambda_s} e^{u - \lambda_s} p(u)\, du

    The authors' code has the second divided difference, which tends to h^2 x_0'' / 2, in the place of h^2 x_0'',
    and is of order 2: ``weights=TaylorWeights()``. A start where alpha is zero keeps the order.

    Source: Lu et al., 2022, arXiv:2211.01095, eq. 12, with the derivatives from past evaluations.

    Arguments:
        weights: a rule for the weights: of :mod:`~sde_gen.solver.multistep_weights`, or None for this package's,
            limited in long steps and with a corrected start.
    """

    points: ClassVar[int] = 3
    form: ClassVar[type[Form]] = DataForm
