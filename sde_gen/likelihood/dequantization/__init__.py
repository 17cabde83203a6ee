"""Dequantization of integer levels."""

from sde_gen.likelihood.dequantization.base import Dequantization, Dequantized
from sde_gen.likelihood.dequantization.importance import importance_bound
from sde_gen.likelihood.dequantization.noised import Noised
from sde_gen.likelihood.dequantization.truncated_normal import TruncatedNormal
from sde_gen.likelihood.dequantization.uniform import UniformDequantization
from sde_gen.likelihood.dequantization.variational import Variational, fit, load

__all__ = [
    "Dequantization",
    "Dequantized",
    "Noised",
    "TruncatedNormal",
    "UniformDequantization",
    "Variational",
    "fit",
    "importance_bound",
    "load",
]


def __dir__() -> list[str]:
    return sorted(__all__)
