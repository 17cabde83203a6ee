"""ODE integrators, in either direction of time."""

from sde_gen.integrator.base import Field, Integrator
from sde_gen.integrator.runge_kutta import RungeKutta4
from sde_gen.integrator.torch_diffeq import TorchDiffEq

__all__ = ["Field", "Integrator", "RungeKutta4", "TorchDiffEq"]
