"""Super-resolution: block means are known."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.inverse.operator.base import Operator


@dataclass(frozen=True, kw_only=True)
class AveragePool(Operator):
    """Means of square blocks: (B, C, H, W) -> (B, C, H / factor, W / factor).

    Arguments:
        factor: side of a block in pixels.

    Raises:
        ValueError: factor is below 2 or, when called, does not divide the image.
    """

    factor: int = 2

    def __post_init__(self) -> None:
        if self.factor < 2:
            raise ValueError(f"factor={self.factor}: expected at least 2, the side of a block in pixels")

    def __call__(self, x: Tensor) -> Tensor:
        """Return the means of the blocks."""
        if x.ndim != 4 or x.shape[-1] % self.factor or x.shape[-2] % self.factor:
            raise ValueError(
                f"factor={self.factor} must divide the height and width of images (C, H, W), got {tuple(x.shape[1:])}"
            )
        return torch.nn.functional.avg_pool2d(x, self.factor)
