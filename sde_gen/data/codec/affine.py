"""Continuous data, shifted and scaled."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.data.codec.base import Codec
from sde_gen.noise import Noise
from sde_gen.utils.types import Shape


@dataclass(frozen=True, kw_only=True)
class Affine(Codec):
    """Continuous data: ``x = (y - shift) / scale``.

    Arguments:
        shift: value that is mapped to zero.
        scale: unit of the model space.
    """

    shift: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError(f"scale={self.scale} must be positive")

    def encode(self, values: Tensor, noise: Noise | None = None) -> Tensor:
        """Shift and scale; continuous data need no dequantization noise."""
        del noise
        return (values.to(torch.float32) - self.shift) / self.scale

    def decode(self, x: Tensor) -> Tensor:
        """Invert the shift and scale."""
        return x * self.scale + self.shift

    def decode_image(self, x: Tensor) -> Tensor:
        """Return the values in units of the data, for a scatter plot."""
        return self.decode(x)

    def log_det(self, event: Shape) -> float:
        """Return -D log(scale) in nats."""
        return -math.prod(event) * math.log(self.scale)
