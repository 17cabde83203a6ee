"""Images of low resolution, enlarged by cubic interpolation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sde_gen.data.conditioning.file_image import FileImage


@dataclass(frozen=True, kw_only=True)
class EnlargedImage(FileImage):
    """An image of fewer pixels, enlarged by cubic interpolation to the size of the sample beside it.

    What the stage before has drawn is not rounded to levels.

    Source: Ramesh et al., 2022, arXiv:2204.06125, section 2.1 (upsamplers of unCLIP); the interpolation is PyTorch's
    ``bicubic`` with ``antialias``.

    Arguments:
        shape: shape (C, H, W) of the samples.
        given_sides: height and width of a given image.

    Raises:
        ValueError: the shape is not one of images, or the sides are not two positive numbers.
    """

    given_sides: Sequence[int]

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.given_sides) != 2 or min(self.given_sides) < 1:
            raise ValueError(f"given_sides={list(self.given_sides)}: expected height and width")

    @property
    def names(self) -> tuple[str, ...]:
        """Return the only name."""
        return ("image",)

    @property
    def keys(self) -> tuple[str, ...]:
        """Return the only key."""
        return ("image",)

    @property
    def unrounded(self) -> bool:
        """Return True."""
        return True

    def inputs(self, typed: Mapping[str, Sequence[Any]], at: int) -> dict[str, Tensor]:
        """Return an image, enlarged."""
        files, (channels, *sides) = typed["image"], self.shape
        image = self.read(files[at % len(files)], (channels, *self.given_sides))
        found = F.interpolate(image, sides, mode="bicubic", align_corners=False, antialias=True)
        return {"image": found}

    def null(self, count: int) -> dict[str, Tensor]:
        """Return gray images."""
        return {"image": torch.zeros(count, *self.shape)}
