"""Group normalization and rules for the number of groups."""

import abc
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn


class GroupNorm(nn.GroupNorm):
    """Group normalization, by way of contiguous memory where bfloat16 images lie in channels_last order.

    PyTorch's CPU kernel for that pair (2.13) takes about three times as long as two copies and its contiguous kernel.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalize (B, C, *sides); the result lies in memory as the input does."""
        if input.ndim != 4 or input.dtype != torch.bfloat16 or input.stride(1) != 1:
            return super().forward(input)
        return super().forward(input.contiguous()).contiguous(memory_format=torch.channels_last)


def norm(channels: int, eps: float = 1e-6) -> nn.GroupNorm:
    """Group normalization with at most 32 groups of at least four channels, as many as divide the channels."""
    groups = max(g for g in range(1, min(max(channels // 4, 1), 32) + 1) if channels % g == 0)
    return GroupNorm(groups, channels, eps=eps)


class GroupNormRule(abc.ABC):
    """A rule for the normalizations of a U-Net."""

    @abc.abstractmethod
    def block(self, channels: int) -> nn.GroupNorm:
        """Return the normalization of a residual block."""

    def joined(self, channels: int, *, attended: bool) -> nn.GroupNorm:
        """Return the normalization of features concatenated with skip connections, by attention on the level."""
        del attended
        return self.block(channels)

    def attention(self, channels: int) -> nn.GroupNorm:
        """Return the normalization of an attention layer."""
        return self.block(channels)

    def middle(self, channels: int) -> nn.Module:
        """Return the normalization of the attention in the middle."""
        return self.attention(channels)


@dataclass(frozen=True, kw_only=True)
class QuarterGroups(GroupNormRule):
    """At most 32 groups of at least four channels: :func:`norm` (Song et al., 2021, arXiv:2011.13456, their code).

    Arguments:
        eps: added to the variance.
    """

    eps: float = 1e-6

    def block(self, channels: int) -> nn.GroupNorm:
        """Return :func:`norm` of the channels."""
        return norm(channels, self.eps)


@dataclass(frozen=True, kw_only=True)
class QuarterGroupsConcatenated(QuarterGroups):
    """:class:`QuarterGroups`, but with 32 groups in attention and in the decoder path to it (NCSN++ of diffusers).

    The two differ below 128 channels.
    """

    def joined(self, channels: int, *, attended: bool) -> nn.GroupNorm:
        """Return a normalization with 32 groups if attention follows, else that of a block."""
        return FixedGroups(groups=32).block(channels) if attended else self.block(channels)

    def attention(self, channels: int) -> nn.GroupNorm:
        """Return a normalization with 32 groups."""
        return FixedGroups(groups=32).block(channels)


@dataclass(frozen=True, kw_only=True)
class GCDGroups(GroupNormRule):
    """32 groups, or as many of them as divide the channels evenly (Dhariwal and Nichol, 2021, arXiv:2105.05233)."""

    def block(self, channels: int) -> nn.GroupNorm:
        """Return a normalization with ``gcd(channels, 32)`` groups."""
        return GroupNorm(math.gcd(channels, 32), channels, eps=1e-5)


@dataclass(frozen=True, kw_only=True)
class FixedGroups(GroupNormRule):
    """The same number of groups everywhere (Ho et al., 2020, arXiv:2006.11239: 32).

    Arguments:
        groups: number of groups.
        eps: added to the variance.

    Raises:
        ValueError: a number is not positive or, when called, the groups do not divide the channels.
    """

    groups: int = 32
    eps: float = 1e-6

    def __post_init__(self) -> None:
        if self.groups < 1 or not self.eps > 0:
            raise ValueError(f"groups={self.groups}, eps={self.eps}: both must be positive")

    def block(self, channels: int) -> nn.GroupNorm:
        """Return a normalization with ``groups`` groups, which must divide the channels."""
        if channels % self.groups:
            raise ValueError(f"{channels} channels cannot be normalized in {self.groups} equal groups")
        return GroupNorm(self.groups, channels, eps=self.eps)


@dataclass(frozen=True, kw_only=True)
class FixedGroupsExceptMiddle(FixedGroups):
    """As :class:`FixedGroups`, but another number of groups, or no normalization, in the attention in the middle.

    The U-Nets of diffusers have that (von Platen et al., diffusers 0.42, UNetMidBlock2D).

    Arguments:
        middle_groups: number of groups there, None for no normalization.

    Raises:
        ValueError: as :class:`FixedGroups`.
    """

    middle_groups: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.middle_groups is not None and self.middle_groups < 1:
            raise ValueError(f"middle_groups={self.middle_groups} must be positive")

    def middle(self, channels: int) -> nn.Module:
        """Return a normalization with ``middle_groups`` groups, or none."""
        if self.middle_groups is None:
            return nn.Identity()
        return FixedGroups(groups=self.middle_groups, eps=self.eps).block(channels)
