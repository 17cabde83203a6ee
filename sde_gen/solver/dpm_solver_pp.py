"""DPM-Solver++ in data prediction: multistep (2M, 3M) and singlestep (2S, 3S)."""

from dataclasses import dataclass
from typing import ClassVar

from sde_gen.solver._integrals import FlowIntegral, X0Integral
from sde_gen.solver._singlestep import ExponentialSolver
from sde_gen.solver.multistep_weights import WeightedMultistep
from sde_gen.solver.unipc import BH2Integral


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
    integral: ClassVar[type[FlowIntegral]] = BH2Integral


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


@dataclass(frozen=True, kw_only=True)
class DPMSolverPP3M(WeightedMultistep):
    r"""The three-step exponential integrator of the probability flow in data prediction.

    The clean sample is the parabola in lam = log(alpha / sigma) through the last three evaluations, integrated
    exactly:

    .. math::
        x_s = \frac{\sigma_s}{\sigma_t} x_t + \alpha_s \int_{\lambda_t}^{\lambda_s} e^{u - \lambda_s} p(u)\, du

    The authors' code has the second divided difference, which tends to h^2 x_0'' / 2, in place of h^2 x_0'',
    and is of order 2: ``weights=TaylorWeights()``. A start where alpha is zero keeps the order.

    Source: Lu et al., 2022, arXiv:2211.01095, eq. 12, with the derivatives from past evaluations.

    Arguments:
        weights: a rule for the weights: of :mod:`~sde_gen.solver.multistep_weights`, or None for this package's,
            limited in long steps and with a corrected start.
    """

    points: ClassVar[int] = 3
    integral: ClassVar[type[FlowIntegral]] = X0Integral


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
