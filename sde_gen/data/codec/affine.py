"""Continuous data, shifted and scaled."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.data.codec.base import Codec, constant
from sde_gen.noise import Noise


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

    def log_det(self, x: Tensor) -> Tensor:
        """Return -D log(scale) in nats, everywhere."""
        return constant(x, -math.prod(x.shape[1:]) * math.log(self.scale))
