"""How a sampler is made to answer a measurement: by its denoiser, or by its walk."""

from sde_gen.inverse.method.base import Method
from sde_gen.inverse.method.denoiser_method import DenoiserMethod
from sde_gen.inverse.method.solver_method import SolverMethod

__all__ = ["DenoiserMethod", "Method", "SolverMethod"]
