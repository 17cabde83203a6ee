"""DPM-Solver in noise prediction: singlestep of orders 1 to 3, multistep of orders 2 and 3."""

from dataclasses import dataclass
from typing import ClassVar

from sde_gen.solver._integrals import EpsIntegral, FlowIntegral
from sde_gen.solver._singlestep import ExponentialSolver
from sde_gen.solver.multistep_weights import WeightedMultistep


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
    integral: ClassVar[type[FlowIntegral]] = EpsIntegral
    fractions: ClassVar[tuple[float, ...]] = ()
    through: ClassVar[tuple[tuple[int, ...], ...]] = ((0,),)


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
    integral: ClassVar[type[FlowIntegral]] = EpsIntegral
    fractions: ClassVar[tuple[float, ...]] = (1 / 2,)
    through: ClassVar[tuple[tuple[int, ...], ...]] = ((0,), (1,))


@dataclass(frozen=True, kw_only=True)
class DPMSolver3(ExponentialSolver):
    r"""An exponential Runge-Kutta method of three stages in lam = log(alpha / sigma), in noise prediction.

    With the times m and n at the fractions r_1 = 1/3 and r_2 = 2/3 from t to s in lam, with
    phi(h) = (e^h - 1) / h - 1 and differences of predicted noise D against that at t,

    .. math::
        u_m &= \tfrac{\alpha_m}{\alpha_t} x_t - \sigma_m (e^{r_1 h} - 1)\, \hat\epsilon_t \\
        u_n &= \tfrac{\alpha_n}{\alpha_t} x_t - \sigma_n (e^{r_2 h} - 1)\, \hat\epsilon_t
               - \sigma_n \tfrac{r_2}{r_1} \phi(r_2 h)\, D_m \\
        x_s &= \tfrac{\alpha_s}{\alpha_t} x_t - \sigma_s (e^h - 1)\, \hat\epsilon_t
               - \sigma_s \tfrac{1}{r_2} \phi(h)\, D_n .

    Every step has three evaluations, the last one too: any number of steps will do.

    Source: Lu et al., 2022, arXiv:2206.00927, algorithm 2.
    """

    order: ClassVar[int] = 3
    stages: ClassVar[int] = 3
    integral: ClassVar[type[FlowIntegral]] = EpsIntegral
    fractions: ClassVar[tuple[float, ...]] = (1 / 3, 2 / 3)
    through: ClassVar[tuple[tuple[int, ...], ...]] = ((0,), (0, 1), (0, 2))


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
    integral: ClassVar[type[FlowIntegral]] = EpsIntegral


@dataclass(frozen=True, kw_only=True)
class DPMSolver3M(WeightedMultistep):
    r"""The three-step exponential integrator of the probability flow in noise prediction.

    The noise is the parabola in lam = log(alpha / sigma) through the last three evaluations, integrated exactly:

    .. math::
        x_s = \frac{\alpha_s}{\alpha_t} x_t - \sigma_s \int_{\lambda_t}^{\lambda_s} e^{\lambda_s - u} p(u)\, du

    The authors' code has the second divided difference, which tends to h^2 eps'' / 2, in place of h^2 eps'',
    and is of order 2: ``weights=TaylorWeights()``.

    Source: Lu et al., 2022, arXiv:2206.00927, eq. 3.4, with the derivatives from past evaluations.

    Arguments:
        weights: a rule for the weights: of :mod:`~sde_gen.solver.multistep_weights`, or None for this package's,
            limited in long steps and with a corrected start.
    """

    points: ClassVar[int] = 3
    integral: ClassVar[type[FlowIntegral]] = EpsIntegral
