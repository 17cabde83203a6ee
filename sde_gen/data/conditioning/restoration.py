"""Degraded versions of the samples themselves as conditions."""

import abc
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from sde_gen.data.base import Dataset
from sde_gen.data.conditioning.image import ConditionImage
from sde_gen.utils.types import Shape

Self = TypeVar("Self", bound="Restoration")


@dataclass(frozen=True, kw_only=True)
class Restoration(ConditionImage, abc.ABC):
    """Images that are made of the samples in every batch, and that the network is to restore."""

    @abc.abstractmethod
    def check_event(self, event: Shape) -> None:
        """Raise ValueError if events of this shape (C, H, W) cannot be degraded."""

    @abc.abstractmethod
    def degrade(self, images: Tensor) -> Tensor:
        """Map images (B, C, H, W) in [-1, 1] to what the network is given, (B, channels, H, W)."""

    @abc.abstractmethod
    def of_images(self, images: Tensor) -> Tensor:
        """Map degraded images in levels, (B, *source_shape), to the network's input (B, C', H, W)."""

    def fit(self: Self, train: Dataset) -> Self:
        """Take shape and levels from the training split.

        Raises:
            ValueError: the data are no images in memory, or of a shape that cannot be degraded.
        """
        self.check(train)
        return replace(self, shape=train.shape, levels=train.levels or 0)

    def check(self, data: Dataset) -> None:
        """Raise ValueError if the condition cannot be made of the data."""
        name = type(self).__name__
        if len(data.shape) != 3:
            raise ValueError(f"{name} restores images (C, H, W); the data have shape {data.shape}")
        if data.buckets is not None:
            raise ValueError(f"{name} needs images of one size: use data=image_folder, or conditioning=none")
        if not isinstance(data.values, Tensor):
            raise ValueError(
                f"{name} needs images in memory, and these are read from the disk: leave out data.cache or data.mmap, "
                "or prepare pairs of images for data=pairs"
            )
        self.check_event(data.shape)

    def prepare(self, data: Dataset) -> Dataset:
        """Return the data with the samples as condition, which share their memory."""
        self.check(data)
        assert isinstance(data.values, Tensor)
        return replace(data, conditions={self.name: data.values})

    def transform(self, rows: Tensor) -> Tensor:
        """Degrade samples (B, C, H, W), and append the channels that describe the image."""
        shape = self._shape()
        if tuple(rows.shape[1:]) != shape:
            raise ValueError(f"the image to degrade has shape {tuple(rows.shape[1:])}; expected {shape}")
        return self.described(self.degrade(self.scaled(rows)))


@dataclass(frozen=True, kw_only=True)
class Superresolution(Restoration):
    """Averages of blocks of pixels, enlarged to the size of the samples by bicubic interpolation.

    A file of any size is resized to the low resolution first.

    Source: Saharia et al., 2021, arXiv:2104.07636 (SR3), section 2.1, for the enlarged image beside the noisy one.

    Arguments:
        dropout: probability that an image is dropped.
        shape: shape (C, H, W) of the samples; None: that of the training split.
        levels: number of integer levels, 0 for numbers in [-1, 1]; None: that of the data.
        noise: largest standard deviation of the noise of the condition, at most 1; 0 for none.
        factor: side of a block.

    Raises:
        ValueError: the factor is below 2, or as for :class:`ConditionImage`.
    """

    factor: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.factor < 2:
            raise ValueError(f"factor={self.factor}: expected at least 2")

    def check_event(self, event: Shape) -> None:
        """Raise ValueError if the sides are no multiples of the factor."""
        if event[1] % self.factor or event[2] % self.factor:
            raise ValueError(
                f"images of {event[1]}x{event[2]} have no blocks of {self.factor}x{self.factor}: choose a factor that "
                "divides the sides, or another data.size"
            )

    def degrade(self, images: Tensor) -> Tensor:
        """Average over blocks, and enlarge the means."""
        return self.enlarge(torch.nn.functional.avg_pool2d(images, self.factor))

    def enlarge(self, images: Tensor) -> Tensor:
        """Enlarge images of the low resolution by bicubic interpolation."""
        return torch.nn.functional.interpolate(images, scale_factor=self.factor, mode="bicubic")

    @property
    def source_shape(self) -> Shape:
        """Shape of images of the low resolution."""
        channels, height, width = self._shape()
        return channels, height // self.factor, width // self.factor

    def of_images(self, images: Tensor) -> Tensor:
        """Enlarge images of the low resolution."""
        return self.described(self.enlarge(self.scaled(images)))


@dataclass(frozen=True, kw_only=True)
class Colorization(Restoration):
    """Gray versions of color images, by the luma 0.299 R + 0.587 G + 0.114 B of ITU-R BT.601.

    Source: Saharia et al., 2021, arXiv:2111.05826 (Palette), section 4.1.

    Arguments:
        dropout: probability that an image is dropped.
        shape: shape (3, H, W) of the samples; None: that of the training split.
        levels: number of integer levels, 0 for numbers in [-1, 1]; None: that of the data.
        noise: largest standard deviation of the noise of the condition, at most 1; 0 for none.
    """

    @property
    def channels(self) -> int:
        """Number of channels of the luma, one."""
        return 1

    def check_event(self, event: Shape) -> None:
        """Raise ValueError if the images have no colors."""
        if event[0] != 3:
            raise ValueError(
                f"images of shape {event} have no colors; expected (3, H, W), such as data.channels=3"
            )

    def degrade(self, images: Tensor) -> Tensor:
        """Return the luma."""
        weights = torch.tensor([0.299, 0.587, 0.114], dtype=images.dtype, device=images.device)
        return torch.einsum("c,bchw->bhw", weights, images).unsqueeze(1)

    @property
    def source_shape(self) -> Shape:
        """Shape of gray images."""
        return (1, *self._shape()[1:])

    def of_images(self, images: Tensor) -> Tensor:
        """Scale gray images."""
        return self.described(self.scaled(images))
