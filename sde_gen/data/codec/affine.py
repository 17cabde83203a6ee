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
        shift: what becomes zero.
        scale: what becomes one.
    """

    shift: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError(f"scale={self.scale} must be positive")

    def encode(self, values: Tensor, noise: Noise | None = None) -> Tensor:
        """Shift and scale; continuous data needs no noise."""
        del noise
        return (values.to(torch.float32) - self.shift) / self.scale

    def decode(self, x: Tensor) -> Tensor:
        """Undo it."""
        return x * self.scale + self.shift

    def decode_image(self, x: Tensor) -> Tensor:
        """The numbers themselves, for a scatter plot."""
        return self.decode(x)

    def log_det(self, event: Shape) -> float:
        """-D log(scale) nats."""
        return -math.prod(event) * math.log(self.scale)
