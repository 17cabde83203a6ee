"""How a sampler is made to answer a measurement: by its denoiser, or by its walk."""

from sde_gen.method.base import Method
from sde_gen.method.guided import Guided
from sde_gen.method.walked import Walked

__all__ = ["Guided", "Method", "Walked"]
