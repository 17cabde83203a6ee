"""How a sampler is made to answer a measurement: by its denoiser, or by its walk."""

from sde_gen.inverse.method.base import Method
from sde_gen.inverse.method.guided import DenoiserMethod
from sde_gen.inverse.method.walked import SolverMethod

__all__ = ["DenoiserMethod", "Method", "SolverMethod"]


def __dir__() -> list[str]:
    return sorted(__all__)
