"""Images with random dropout and noise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from sde_gen.data.base import Dataset
from sde_gen.data.conditioning.base import SingleConditioning, check_dropout, require
from sde_gen.data.image_file import load_image
from sde_gen.noise import Noise
from sde_gen.utils.broadcasting import broadcast
from sde_gen.utils.types import Shape


@dataclass(frozen=True, kw_only=True)
class ConditionImage(SingleConditioning):
    r"""Images of the size of the data, randomly replaced by the null.

    Integer levels are mapped to [-1, 1], and a channel of ones is appended: the network sees the result beside the
    noisy sample. The null is zero in all channels, as without an image.

    With ``noise`` the image c is noised in training, :math:`\sqrt{1 - s^2} c + s \epsilon` with s uniform in
    [0, noise], and another channel gives the network s: it learns how far to trust an image that is itself a
    sample. Samples are given clean images, s = 0, or noised ones by :meth:`noised`.

    Sources: Saharia et al., 2021, arXiv:2111.05826 (Palette), section 3, for the concatenation of channels; Ho et al.,
    2021, arXiv:2106.15282, section 4.2, and Saharia et al., 2022, arXiv:2205.11487, section 2.4, for the noise.

    Arguments:
        dropout: probability that an image is dropped.
        shape: shape (C, H, W) of the images; None: that of the training split.
        levels: number of integer levels, 0 for numbers that are used as they are; None: that of the data.
        noise: largest standard deviation s of the noise, at most 1; 0 for none.

    Raises:
        ValueError: dropout or noise lies outside [0, 1], or the shape is not one of images.
    """

    dropout: float = 0.1
    shape: Sequence[int] | None = None
    levels: int | None = None
    noise: float = 0.0

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
        if not 0 <= self.noise <= 1:
            raise ValueError(f"noise={self.noise} must lie in [0, 1]: it is a standard deviation")

    @property
    def channels(self) -> int:
        """Channels of the image that the network sees, without those that describe it."""
        return self._shape()[0]

    @property
    def colors(self) -> int:
        """Channels of the image to which noise is added."""
        return self.channels

    @property
    def sizes(self) -> dict[str, int]:
        """Return the number of channels of the network's input."""
        return {"image": self.channels + 1 + (self.noise > 0)}

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
        """Map levels to [-1, 1], and append the channels that describe the image: (B, C, H, W) to (B, C', H, W)."""
        shape = self._shape()
        if tuple(rows.shape[1:]) != shape:
            raise ValueError(f"the condition image has shape {tuple(rows.shape[1:])}; expected {shape}")
        return self.described(self.scaled(rows))

    def draw(self, rows: Tensor, noise: Noise) -> Tensor:
        """Transform, and add noise of a random level."""
        clean = self.transform(rows)
        return self._noised(clean, self.noise * noise.uniform(clean), noise) if self.noise else clean

    def noised(self, given: Mapping[str, Tensor], level: float, noise: Noise) -> dict[str, Tensor]:
        """Add noise of one level to the images of the network's inputs."""
        if not 0 <= level <= self.noise:
            raise ValueError(
                f"image_noise={level}: the run was trained with noise of 0 to {self.noise:g} of its condition images "
                "(conditioning.noise)"
            )
        image = given.get(self.key)
        if image is None or level == 0:
            return dict(given)
        return {**given, self.key: self._noised(image, torch.full((len(image),), level), noise)}

    def _noised(self, clean: Tensor, level: Tensor, noise: Noise) -> Tensor:
        s = broadcast(level.to(clean), clean)
        image, others = clean[:, : self.colors], clean[:, self.colors : self.channels]
        image = torch.sqrt(1 - s**2) * image + s * noise.normal(image)
        return torch.cat([image, others, s.expand_as(clean[:, :1]), clean[:, self.channels + 1 :]], dim=1)

    def scaled(self, rows: Tensor) -> Tensor:
        """Map levels to [-1, 1]; numbers stay as they are."""
        return 2 * rows.float() / (self.levels - 1) - 1 if self.levels else rows.float()

    def described(self, images: Tensor) -> Tensor:
        """Append a channel of the level of noise, zero, where there is one, and a channel of ones."""
        level = [torch.zeros_like(images[:, :1])] if self.noise else []
        return torch.cat([images, *level, torch.ones_like(images[:, :1])], dim=1)

    def null_row(self) -> Tensor:
        """Return the null image, zeros."""
        _, height, width = self._shape()
        return torch.zeros(1, self.sizes["image"], height, width)

    def parse(self, values: Sequence[Any], class_names: Sequence[str]) -> Tensor:
        """Read image files, resized and cropped to the shape."""
        del class_names
        for value in values:
            if not isinstance(value, str | Path):
                raise ValueError(f"image={value}: the condition is an image file")
        return torch.cat([self.read(Path(value)) for value in values])

    def prompt(
        self, typed: Mapping[str, Any], count: int, *, class_names: Sequence[str] = ()
    ) -> dict[str, Tensor]:
        """Read the files, or transform a tensor of images, taken in turn."""
        images = typed.get(self.name)
        if not isinstance(images, Tensor):
            return super().prompt(typed, count, class_names=class_names)
        self.reject_unknown(typed)
        if tuple(images.shape[1:]) != self.source_shape:
            raise ValueError(
                f"the condition images have shape {tuple(images.shape[1:])}; expected {self.source_shape}"
            )
        rows = self.of_images(images)
        return {self.key: rows.repeat(-(-count // len(rows)), 1, 1, 1)[:count]}

    @property
    def source_shape(self) -> Shape:
        """Shape of the images that :meth:`prompt` is given."""
        return self._shape()

    def of_images(self, images: Tensor) -> Tensor:
        """Map images that are given, (B, *source_shape) in levels, to the network's input (B, C', H, W)."""
        return self.transform(images)

    def read(self, path: Path) -> Tensor:
        """Read an image file as the network's input with shape (1, C', H, W)."""
        return self.of_images(self.levels_of(path, self.source_shape))

    def levels_of(self, path: Path, shape: Shape) -> Tensor:
        """Read an image file as levels, or numbers in [-1, 1], with shape (1, *shape)."""
        if shape[0] not in (1, 3):
            raise ValueError(f"image={path}: a file has 1 or 3 channels, the condition has {shape[0]}")
        steps = (self.levels or 256) - 1
        levels = torch.round(load_image(path, shape).double() * steps / 255).unsqueeze(0)
        return levels if self.levels else 2 * levels / 255 - 1

    def _shape(self) -> Shape:
        if self.shape is None:
            raise ValueError("the shape of the condition images is not known; give it, or call fit(train)")
        return tuple(self.shape)
