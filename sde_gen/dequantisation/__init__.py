"""From integer levels to points at which a density can be evaluated."""

from sde_gen.dequantisation.base import Dequantisation, Dequantised
from sde_gen.dequantisation.importance import importance_bound
from sde_gen.dequantisation.noised import Noised
from sde_gen.dequantisation.truncated_normal import TruncatedNormal
from sde_gen.dequantisation.uniform import Uniform
from sde_gen.dequantisation.variational import Variational, fit, load

__all__ = [
    "Dequantisation",
    "Dequantised",
    "Noised",
    "TruncatedNormal",
    "Uniform",
    "Variational",
    "fit",
    "importance_bound",
    "load",
]
