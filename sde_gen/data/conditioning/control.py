"""Hints, images that control a network: edges of the samples themselves, and images that the data hold."""

import abc
import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from sde_gen.data.conditioning.image import ConditionImage
from sde_gen.data.conditioning.restoration import Restoration
from sde_gen.utils.types import Shape


@dataclass(frozen=True, kw_only=True)
class Hint(ConditionImage):
    """Images in [0, 1] for a controlled network, such as depths, randomly replaced by the null.

    A last channel is the scale of the hint: one, and zero in the null, which is the network without control, bit for
    bit.

    Source: Zhang et al., 2023, arXiv:2302.05543, section 3.

    Arguments:
        dropout: probability that a hint is dropped.
        shape: shape (C, H, W) of the images; None: that of the training split.
        levels: number of integer levels, 0 for numbers that are used as they are; None: that of the data.
        noise: 0, as hints are clean.

    Raises:
        ValueError: the noise is not 0, or as for :class:`ConditionImage`.
    """

    key: ClassVar[str] = "control"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.noise:
            raise ValueError(f"noise={self.noise}: hints are clean; expected 0")

    @property
    def sizes(self) -> dict[str, int]:
        """Return the number of channels of the hint."""
        return {"control": self.channels}

    def drops(self, key: str) -> bool:
        """Return that the network without control is known, whatever the dropout."""
        return key == self.key

    def scaled(self, rows: Tensor) -> Tensor:
        """Map levels to [0, 1]; numbers stay as they are."""
        return rows.float() / (self.levels - 1) if self.levels else rows.float()

    def levels_of(self, path: Path, shape: Shape) -> Tensor:
        """Read an image file as levels, or numbers in [0, 1], with shape (1, *shape)."""
        found = super().levels_of(path, shape)
        return found if self.levels else (found + 1) / 2

    def null_row(self) -> Tensor:
        """Return zeros."""
        _, height, width = self._shape()
        return torch.zeros(1, self.channels + 1, height, width)


@dataclass(frozen=True, kw_only=True)
class EdgeHint(Hint, Restoration, abc.ABC):
    """Edges of the samples: one at an edge of the gray image, the mean of the channels in [0, 1], and zero elsewhere.

    In a file, such as a drawing, edges are white.
    """

    name: ClassVar[str] = "control"

    @property
    def channels(self) -> int:
        """Number of channels of the edges, one."""
        return 1

    def check_event(self, event: Shape) -> None:
        """Accept all images."""

    @property
    def source_shape(self) -> Shape:
        """Shape of a drawing, of one channel."""
        return (1, *self._shape()[1:])

    def of_images(self, images: Tensor) -> Tensor:
        """Map drawings of edges, white on black, in levels (B, 1, H, W), to hints (B, 2, H, W)."""
        return self.described((self.scaled(images) >= 0.5).float())


@dataclass(frozen=True, kw_only=True)
class Edges(EdgeHint):
    r"""Edges of the samples: one where the gradient of the gray image is steep, and zero elsewhere.

    The gradient is that of Sobel's masks on the mean of the channels in [0, 1], divided by its largest value along an
    axis, 4; the image continues beyond its border with its last pixel. In a file, such as a drawing, edges are white.

    Source: Sobel and Feldman, 1968, A 3x3 isotropic gradient operator for image processing (Duda and Hart, 1973,
    Pattern classification and scene analysis, section 7.3); as hints: Zhang et al., 2023, arXiv:2302.05543, section 4.

    Arguments:
        dropout: probability that a hint is dropped.
        shape: shape (C, H, W) of the samples; None: that of the training split.
        levels: number of integer levels, 0 for numbers in [0, 1]; None: that of the data.
        noise: 0, as hints are clean.
        threshold: smallest magnitude of the gradient at an edge, from 0 to sqrt(2).

    Raises:
        ValueError: the threshold is not positive or too large, or as for :class:`Hint`.
    """

    threshold: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.threshold < math.sqrt(2):
            raise ValueError(f"threshold={self.threshold}: expected a number between 0 and sqrt(2)")

    def degrade(self, images: Tensor) -> Tensor:
        """Find the edges of images (B, C, H, W) in [0, 1], (B, 1, H, W)."""
        along = sobel(images.mean(1, keepdim=True))
        return (along.square().sum(1, keepdim=True).sqrt() >= self.threshold).to(images.dtype)


def sobel(images: Tensor) -> Tensor:
    """Return Sobel's gradient of gray images (B, 1, H, W), across and down (B, 2, H, W), divided by 4."""
    down = images.new_tensor([[-1, -2, -1], [0, 0, 0], [1, 2, 1]]) / 4
    masks = torch.stack([down.T, down]).unsqueeze(1)
    return F.conv2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), masks)
