"""Pooling of an encoder's features to logits."""

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sde_gen.model.norms import GroupNormRule
from sde_gen.model.unet.blocks import linear


class Pooling(abc.ABC):
    """A rule for building the last module of an encoder: features of all its stages to logits."""

    @abc.abstractmethod
    def build(self, channels: Sequence[int], pixels: int, classes: int, norms: GroupNormRule) -> nn.Module:
        """Build the module.

        Arguments:
            channels: channels of the features: of the stem, of every stage in the encoder path and of the middle.
            pixels: pixels of the coarsest level.
            classes: number of classes.
            norms: rule of the normalizations.

        Returns:
            A module from a list of as many features (B, C, H, W) to logits (B, classes).
        """


@dataclass(frozen=True, kw_only=True)
class AveragePooling(Pooling):
    """The average over the pixels of the last features (Dhariwal and Nichol, 2021, in their code: adaptive)."""

    def build(self, channels: Sequence[int], pixels: int, classes: int, norms: GroupNormRule) -> nn.Module:
        """Normalize, average, and a dense layer."""
        del pixels
        return _Averaged(channels[-1], classes, norms)


@dataclass(frozen=True, kw_only=True)
class AttentionPooling(Pooling):
    """Attention pooling: attention from the mean token to all pixels of the last features.

    Sources: Radford et al., 2021, arXiv:2103.00020, section 2.4; Dhariwal and Nichol, 2021, arXiv:2105.05233,
    appendix C.

    Arguments:
        head_channels: channels of a head of attention, which divide those of the coarsest level.

    Raises:
        ValueError: head_channels is not positive or, when called, does not divide the channels.
    """

    head_channels: int = 64

    def __post_init__(self) -> None:
        if self.head_channels < 1:
            raise ValueError(f"head_channels={self.head_channels} must be at least 1")

    def build(self, channels: Sequence[int], pixels: int, classes: int, norms: GroupNormRule) -> nn.Module:
        """Build attention from the mean of all pixels."""
        size = min(self.head_channels, channels[-1])
        if channels[-1] % size:
            raise ValueError(
                f"{channels[-1]} channels cannot be shared evenly by heads of head_channels={size}"
            )
        return _Attended(channels[-1], pixels, classes, channels[-1] // size, norms)


@dataclass(frozen=True, kw_only=True)
class MultiScalePooling(Pooling):
    """The averages over the pixels of the features of all stages, through two dense layers.

    Source: Dhariwal and Nichol, 2021, in their code: spatial.

    Arguments:
        hidden: features between the layers.

    Raises:
        ValueError: hidden is not positive.
    """

    hidden: int = 2048

    def __post_init__(self) -> None:
        if self.hidden < 1:
            raise ValueError(f"hidden={self.hidden} must be at least 1")

    def build(self, channels: Sequence[int], pixels: int, classes: int, norms: GroupNormRule) -> nn.Module:
        """Average all, and two dense layers."""
        del pixels, norms
        return _OfAllStages(sum(channels), self.hidden, classes, nn.ReLU())


@dataclass(frozen=True, kw_only=True)
class NormalizedMultiScalePooling(MultiScalePooling):
    """As :class:`MultiScalePooling`, with a group normalization between the layers (their code: spatial_v2)."""

    def build(self, channels: Sequence[int], pixels: int, classes: int, norms: GroupNormRule) -> nn.Module:
        """Average all, and two dense layers."""
        del pixels, norms
        between = nn.Sequential(nn.GroupNorm(math.gcd(self.hidden, 32), self.hidden), nn.SiLU())
        return _OfAllStages(sum(channels), self.hidden, classes, between)


class _Averaged(nn.Module):
    def __init__(self, channels: int, classes: int, norms: GroupNormRule) -> None:
        super().__init__()
        self.norm = norms.block(channels)
        self.out = linear(channels, classes, zero=True)

    def forward(self, features: list[Tensor]) -> Tensor:
        out: Tensor = self.out(F.silu(self.norm(features[-1])).mean((2, 3)))
        return out


class _Attended(nn.Module):
    def __init__(self, channels: int, pixels: int, classes: int, heads: int, norms: GroupNormRule) -> None:
        super().__init__()
        self.heads = heads
        self.norm = norms.block(channels)
        self.position = nn.Parameter(torch.randn(pixels + 1, channels) / channels**0.5)
        self.query, self.key, self.value = (linear(channels, channels) for _ in range(3))
        self.out = linear(channels, classes)

    def forward(self, features: list[Tensor]) -> Tensor:
        places = F.silu(self.norm(features[-1])).flatten(2).mT
        places = torch.cat([places.mean(1, keepdim=True), places], dim=1) + self.position
        query, key, value = (
            part(x).unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, heads, places, channels of a head)
            for part, x in ((self.query, places[:, :1]), (self.key, places), (self.value, places))
        )
        weight = torch.softmax(query @ key.mT * query.shape[3] ** -0.5, dim=3)
        out: Tensor = self.out((weight @ value).flatten(1))
        return out


class _OfAllStages(nn.Module):
    def __init__(self, channels: int, hidden: int, classes: int, between: nn.Module) -> None:
        super().__init__()
        self.hidden = linear(channels, hidden)
        self.between = between
        self.out = linear(hidden, classes)

    def forward(self, features: list[Tensor]) -> Tensor:
        averages = torch.cat([h.mean((2, 3)) for h in features], dim=1)
        out: Tensor = self.out(self.between(self.hidden(averages)))
        return out
