"""ODE integrators, in either direction of time."""

from sde_gen.integrator.adams import Adams
from sde_gen.integrator.adaptive_runge_kutta import AdaptiveRungeKutta, BogackiShampine, DormandPrince
from sde_gen.integrator.base import Field, Integrator, Plain, Slope, State
from sde_gen.integrator.runge_kutta import RungeKutta4
from sde_gen.integrator.scipy_ode import ScipyODE
from sde_gen.integrator.torch_diffeq import TorchDiffEq

__all__ = [
    "Adams",
    "AdaptiveRungeKutta",
    "BogackiShampine",
    "DormandPrince",
    "Field",
    "Integrator",
    "Plain",
    "RungeKutta4",
    "ScipyODE",
    "Slope",
    "State",
    "TorchDiffEq",
]
