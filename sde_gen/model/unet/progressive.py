"""Progressive input and output of a U-Net: the image at every resolution."""

import abc
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sde_gen.model.activation import Activation, ActivationLayer
from sde_gen.model.norms import GroupNormRule, QuarterGroups
from sde_gen.model.unet.blocks import convolution_of, initialize
from sde_gen.model.unet.resample import Resampler


class InputLevel(nn.Module, abc.ABC):
    """Update of (pyramid, features) after downsampling."""

    @abc.abstractmethod
    def forward(self, pyramid: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return the new (pyramid, features)."""


class ProgressiveInput(abc.ABC):
    """A rule for building the input side; the kinds are of Song et al., 2021, arXiv:2011.13456, appendix H.

    Attributes:
        widening: how many times more channels the features have after a level than before it.
    """

    widening: ClassVar[int] = 1

    @abc.abstractmethod
    def level(self, image: int, inputs: int, outputs: int, resampler: Resampler, scale: float) -> InputLevel:
        """Build one level.

        Arguments:
            image: channels of the image.
            inputs: channels of the features one level above (of the image at the top).
            outputs: channels of the features of this level.
            resampler: the change of resolution.
            scale: factor of a sum of two branches.
        """


class _PassInput(InputLevel):
    def forward(self, pyramid: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        return pyramid, h


@dataclass(frozen=True, kw_only=True)
class NoInput(ProgressiveInput):
    """The image enters at the top only."""

    def level(self, image: int, inputs: int, outputs: int, resampler: Resampler, scale: float) -> InputLevel:
        """Build a level that does nothing."""
        del image, inputs, outputs, resampler, scale
        return _PassInput()


class _ResidualInput(InputLevel):
    def __init__(self, down: nn.Module, scale: float) -> None:
        super().__init__()
        self.down = down
        self.scale = scale

    def forward(self, pyramid: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = (self.down(pyramid) + h) * self.scale
        return h, h


@dataclass(frozen=True, kw_only=True)
class ResidualInput(ProgressiveInput):
    """A learned pyramid of the image is added to the features and goes on with them."""

    def level(self, image: int, inputs: int, outputs: int, resampler: Resampler, scale: float) -> InputLevel:
        """Build a level with a halving convolution."""
        del image
        return _ResidualInput(resampler.down_convolution(inputs, outputs), scale)


class _SkipInput(InputLevel):
    def __init__(self, image: int, outputs: int, resampler: Resampler) -> None:
        super().__init__()
        self.resampler = resampler
        self.project = convolution_of(resampler.rank, image, outputs, 1)

    def forward(self, pyramid: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        pyramid = self.resampler.down(pyramid)
        return pyramid, h + self.project(pyramid)


@dataclass(frozen=True, kw_only=True)
class SkipInput(ProgressiveInput):
    """The image is halved as it is, projected and added to the features."""

    def level(self, image: int, inputs: int, outputs: int, resampler: Resampler, scale: float) -> InputLevel:
        """Build a level with a projection."""
        del inputs, scale
        return _SkipInput(image, outputs, resampler)


class _JoinedInput(_SkipInput):
    def forward(self, pyramid: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        pyramid = self.resampler.down(pyramid)
        return pyramid, torch.cat([self.project(pyramid), h], dim=1)


@dataclass(frozen=True, kw_only=True)
class JoinedInput(ProgressiveInput):
    """The image is halved as it is, projected and laid beside the features, as many channels again."""

    widening: ClassVar[int] = 2

    def level(self, image: int, inputs: int, outputs: int, resampler: Resampler, scale: float) -> InputLevel:
        """Build a level with a projection."""
        del inputs, scale
        return _JoinedInput(image, outputs, resampler)


class Head(nn.Module):
    """Normalize, activate, convolve: features to an image that is zero at the start of training."""

    def __init__(
        self, channels: int, image: int, norms: GroupNormRule, activation: Activation = F.silu, rank: int = 2
    ) -> None:
        super().__init__()
        self.activation = activation
        self.norm = norms.block(channels)
        self.conv = convolution_of(rank, channels, image, zero=True)

    def forward(self, h: Tensor) -> Tensor:
        """Map (B, channels, *sides) to (B, image, *sides)."""
        out: Tensor = self.conv(self.activation(self.norm(h)))
        return out


class OutputLayout(NamedTuple):
    """The arguments of an output side, by which it makes its modules."""

    image: int
    channels: list[int]
    resampler: Resampler
    norms: GroupNormRule
    activation: Activation

    def head(self, level: int) -> Head:
        """Return a head for the features of a level."""
        return Head(self.channels[level], self.image, self.norms, self.activation, self.resampler.rank)


class ProgressiveOutput(nn.Module, abc.ABC):
    """The output side: sees the features of every level, coarse to fine, and makes the image.

    Arguments:
        image: channels of the image.
        channels: channels of the features of every level, coarse to fine.
        resampler: the change of resolution.
        scale: factor of a sum of two branches.
        norms: rule of the normalizations.
        activation: activation of the blocks.
    """

    def __init__(
        self,
        image: int,
        channels: list[int],
        resampler: Resampler,
        scale: float,
        norms: GroupNormRule = QuarterGroups(),  # noqa: B008 (frozen)
        activation: Activation = F.silu,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.build(OutputLayout(image, channels, resampler, norms, activation))

    @abc.abstractmethod
    def build(self, layout: OutputLayout) -> None:
        """Make the modules."""

    @abc.abstractmethod
    def level(self, index: int, pyramid: Tensor | None, h: Tensor) -> tuple[Tensor | None, Tensor]:
        """Take in a level: (pyramid, features) to the new (pyramid, features); no pyramid before the first."""

    @abc.abstractmethod
    def finish(self, pyramid: Tensor | None, h: Tensor) -> Tensor:
        """Make the image (B, C, *sides) after the finest level."""


class NoOutput(ProgressiveOutput):
    """The image leaves from the finest level only."""

    def build(self, layout: OutputLayout) -> None:
        """Make the head of the finest level."""
        self.head = layout.head(-1)

    def level(self, index: int, pyramid: Tensor | None, h: Tensor) -> tuple[Tensor | None, Tensor]:
        """Return the pyramid and h unchanged."""
        del index
        return pyramid, h

    def finish(self, pyramid: Tensor | None, h: Tensor) -> Tensor:
        """Convert the finest features to the output image."""
        del pyramid
        out: Tensor = self.head(h)
        return out


class SkipOutput(ProgressiveOutput):
    """Every level adds its image to the doubled image of the level below."""

    def build(self, layout: OutputLayout) -> None:
        """Make a head for every level."""
        self.heads = nn.ModuleList(map(layout.head, range(len(layout.channels))))
        self.resampler = layout.resampler

    def level(self, index: int, pyramid: Tensor | None, h: Tensor) -> tuple[Tensor | None, Tensor]:
        """Add the image of this level to the output."""
        image: Tensor = self.heads[index](h)
        return image if pyramid is None else self.resampler.up(pyramid) + image, h

    def finish(self, pyramid: Tensor | None, h: Tensor) -> Tensor:
        """The sum of the images."""
        del h
        assert pyramid is not None
        return pyramid


class ResidualOutput(ProgressiveOutput):
    """A learned pyramid of the levels below is added to the features and goes on with them."""

    def build(self, layout: OutputLayout) -> None:
        """Make the pyramid and the head of the finest level."""
        _, channels, resampler, norms, activation = layout
        self.first = nn.Sequential(
            norms.block(channels[0]),
            ActivationLayer(activation),
            convolution_of(resampler.rank, channels[0], channels[0]),
        )
        self.widen = nn.ModuleList(
            initialize(resampler.up_convolution(below, here), zero=False)
            for below, here in pairwise(channels)
        )
        self.head = layout.head(-1)

    def level(self, index: int, pyramid: Tensor | None, h: Tensor) -> tuple[Tensor | None, Tensor]:
        """Add the pyramid to the features."""
        if pyramid is None:
            first: Tensor = self.first(h)
            return first, h
        h = (self.widen[index - 1](pyramid) + h) * self.scale
        return h, h

    def finish(self, pyramid: Tensor | None, h: Tensor) -> Tensor:
        """Convert the finest features to the output image."""
        del pyramid
        out: Tensor = self.head(h)
        return out
