"""Measurement operators of inverse problems."""

from sde_gen.inverse.operator.average_pool import AveragePool
from sde_gen.inverse.operator.base import Operator
from sde_gen.inverse.operator.blur import Blur
from sde_gen.inverse.operator.compressed_sensing import CompressedSensing
from sde_gen.inverse.operator.function import Function
from sde_gen.inverse.operator.gray import Gray
from sde_gen.inverse.operator.jpeg import JPEG
from sde_gen.inverse.operator.mask import Mask

__all__ = ["JPEG", "AveragePool", "Blur", "CompressedSensing", "Function", "Gray", "Mask", "Operator"]


def __dir__() -> list[str]:
    return sorted(__all__)
