"""Deblurring: an image out of focus is known."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.inverse.operator.base import Operator


@dataclass(frozen=True, kw_only=True)
class Blur(Operator):
    r"""Convolution with a Gaussian cut off at three standard deviations, on the image continued by reflection.

    Arguments:
        std: standard deviation in pixels.

    Raises:
        ValueError: std is not positive or, when called, the image is smaller than the cut-off.
    """

    std: float = 1.0

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise ValueError(f"std={self.std} must be positive: the blur's standard deviation in pixels")

    def __call__(self, x: Tensor) -> Tensor:
        """Blur the rows, then the columns."""
        reach = max(1, round(3 * self.std))
        if x.ndim != 4 or min(x.shape[-2:]) <= reach:
            raise ValueError(
                f"std={self.std} reaches over {reach} pixels, less than images (C, H, W) must have, "
                f"got {tuple(x.shape[1:])}"
            )
        offsets = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
        kernel = torch.softmax(-0.5 * (offsets / self.std) ** 2, 0)
        channels = x.shape[1]
        padded = torch.nn.functional.pad(x, [reach] * 4, mode="reflect")
        across = kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
        blurred = torch.nn.functional.conv2d(padded, across, groups=channels)
        return torch.nn.functional.conv2d(blurred, across.mT, groups=channels)
