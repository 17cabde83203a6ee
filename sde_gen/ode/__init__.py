"""Integration of ordinary differential equations: methods, step-size control, and changes of the time variable."""

from sde_gen.ode.adams import Adams
from sde_gen.ode.adaptive_runge_kutta import AdaptiveRungeKutta, BogackiShampine, DormandPrince
from sde_gen.ode.base import Field, Integrator, Plain, Slope, State
from sde_gen.ode.embedded import Attempt, EmbeddedMethod, Span
from sde_gen.ode.per_sample import OwnSteps
from sde_gen.ode.runge_kutta import RungeKutta4
from sde_gen.ode.scipy_ode import ScipyODE
from sde_gen.ode.tableau import BOGACKI_SHAMPINE, DORMAND_PRINCE
from sde_gen.ode.time_variable import Clock, InAngle, InLam, InTime, Itself, Rates, Variable
from sde_gen.ode.torch_diffeq import TorchDiffEq

__all__ = [
    "BOGACKI_SHAMPINE",
    "DORMAND_PRINCE",
    "Adams",
    "AdaptiveRungeKutta",
    "Attempt",
    "BogackiShampine",
    "Clock",
    "DormandPrince",
    "EmbeddedMethod",
    "Field",
    "InAngle",
    "InLam",
    "InTime",
    "Integrator",
    "Itself",
    "OwnSteps",
    "Plain",
    "Rates",
    "RungeKutta4",
    "ScipyODE",
    "Slope",
    "Span",
    "State",
    "TorchDiffEq",
    "Variable",
]
