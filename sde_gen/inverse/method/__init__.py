"""Posterior sampling methods: by the denoiser or by the solver."""

from sde_gen.inverse.method.base import Method
from sde_gen.inverse.method.denoiser_method import DenoiserMethod
from sde_gen.inverse.method.solver_method import SolverMethod

__all__ = ["DenoiserMethod", "Method", "SolverMethod"]


def __dir__() -> list[str]:
    return sorted(__all__)
