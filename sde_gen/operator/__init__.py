"""Measurements of samples: what an inverse problem knows of its answer."""

from sde_gen.operator.average_pool import AveragePool
from sde_gen.operator.base import Operator
from sde_gen.operator.blur import Blur
from sde_gen.operator.compressed_sensing import CompressedSensing
from sde_gen.operator.function import Function
from sde_gen.operator.grey import Grey
from sde_gen.operator.jpeg import JPEG
from sde_gen.operator.mask import Mask

__all__ = ["JPEG", "AveragePool", "Blur", "CompressedSensing", "Function", "Grey", "Mask", "Operator"]
