"""Images with random dropout."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from sde_gen.data.base import Dataset
from sde_gen.data.conditioning.base import SingleConditioning, check_dropout, require
from sde_gen.data.image_file import load_image
from sde_gen.utils.types import Shape


@dataclass(frozen=True, kw_only=True)
class ConditionImage(SingleConditioning):
    r"""Images of the size of the data, randomly replaced by the null.

    Integer levels are mapped to [-1, 1], and a channel of ones is appended: the network sees the result beside the
    noisy sample. The null is zero in all channels, as without an image.

    Source: Saharia et al., 2021, arXiv:2111.05826 (Palette), section 3, for the concatenation of channels.

    Arguments:
        dropout: probability that an image is dropped.
        shape: shape (C, H, W) of the images; None: that of the training split.
        levels: number of integer levels, 0 for numbers that are used as they are; None: that of the data.

    Raises:
        ValueError: dropout lies outside [0, 1], or the shape is not one of images.
    """

    dropout: float = 0.1
    shape: Sequence[int] | None = None
    levels: int | None = None

    name: ClassVar[str] = "image"
    key: ClassVar[str] = "image"
    learned: ClassVar[tuple[str, ...]] = ("shape", "levels")

    def __post_init__(self) -> None:
        check_dropout(self.dropout, "images")
        if self.shape is not None and (len(self.shape) != 3 or min(self.shape) < 1):
            raise ValueError(
                f"shape={list(self.shape)}: expected (C, H, W), the shape of the condition images"
            )
        if self.levels is not None and (self.levels < 0 or self.levels == 1):
            raise ValueError(f"levels={self.levels}: expected at least 2, or 0 for continuous images")

    @property
    def sizes(self) -> dict[str, int]:
        """Return the number of channels of the network's input."""
        return {"image": 1 + self._shape()[0]}

    def fit(self, train: Dataset) -> "ConditionImage":
        """Take shape and levels from the training split.

        Raises:
            ValueError: the images have another height or width than the data.
        """
        rows = require(self.name, train.conditions)
        shape = tuple(rows.shape[1:])
        if len(shape) != 3 or len(train.shape) != 3 or shape[1:] != train.shape[1:]:
            raise ValueError(
                f"the condition image has shape {shape}, the data {train.shape}: height and width must be the same"
            )
        levels = 0 if rows.is_floating_point() else train.levels or 256
        if levels and not 0 <= int(rows.min()) <= int(rows.max()) < levels:
            raise ValueError(
                f"the condition image has levels in [{int(rows.min())}, {int(rows.max())}], outside the "
                f"{levels} levels 0 to {levels - 1} of the data"
            )
        return replace(self, shape=shape, levels=levels if self.levels is None else self.levels)

    def transform(self, rows: Tensor) -> Tensor:
        """Map levels to [-1, 1], and append a channel of ones: (B, C, H, W) to (B, C + 1, H, W)."""
        shape = self._shape()
        if tuple(rows.shape[1:]) != shape:
            raise ValueError(f"the condition image has shape {tuple(rows.shape[1:])}; expected {shape}")
        images = 2 * rows.float() / (self.levels - 1) - 1 if self.levels else rows.float()
        return torch.cat([images, torch.ones_like(images[:, :1])], dim=1)

    def null_row(self) -> Tensor:
        """Return zeros."""
        channels, height, width = self._shape()
        return torch.zeros(1, channels + 1, height, width)

    def parse(self, values: Sequence[Any], class_names: Sequence[str]) -> Tensor:
        """Read image files, resized and cropped to the shape."""
        del class_names
        shape, images = self._shape(), []
        for value in values:
            if not isinstance(value, str | Path):
                raise ValueError(f"image={value}: the condition is an image file")
            if shape[0] not in (1, 3):
                raise ValueError(f"image={value}: a file has 1 or 3 channels, the condition has {shape[0]}")
            levels = load_image(Path(value), shape)
            steps = (self.levels or 256) - 1
            images.append(torch.round(levels.double() * steps / 255))
        rows = torch.stack(images)
        return self.transform(rows if self.levels else 2 * rows / 255 - 1)

    def _shape(self) -> Shape:
        if self.shape is None:
            raise ValueError("the shape of the condition images is not known; give it, or call fit(train)")
        return tuple(self.shape)
