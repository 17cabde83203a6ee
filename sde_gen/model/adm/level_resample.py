"""Changes of resolution between levels of a U-Net."""

import abc
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sde_gen.model.unet.blocks import DownBlock, IgnoreEmbedding, UpBlock
from sde_gen.model.unet.resample import Resampler


class LevelResample(abc.ABC):
    """A rule for building the modules between two levels, called with features and embedding.

    ``options`` are those of a residual block: embedding, dropout and scale.
    """

    @abc.abstractmethod
    def down(self, channels: int, resampler: Resampler, **options: Any) -> nn.Module:
        """Build the module that halves (B, channels, *sides)."""

    @abc.abstractmethod
    def up(self, channels: int, resampler: Resampler, **options: Any) -> nn.Module:
        """Build the module that doubles (B, channels, *sides)."""


@dataclass(frozen=True, kw_only=True)
class ResBlockResample(LevelResample):
    """A residual block both of whose branches are resampled (Brock et al., 2019, arXiv:1809.11096)."""

    def down(self, channels: int, resampler: Resampler, **options: Any) -> nn.Module:
        """Build a residual block that halves."""
        return DownBlock(channels, resampler=resampler, **options)

    def up(self, channels: int, resampler: Resampler, **options: Any) -> nn.Module:
        """Build a residual block that doubles."""
        return UpBlock(channels, resampler=resampler, **options)


@dataclass(frozen=True, kw_only=True)
class ConvResample(LevelResample):
    """A convolution (Ho et al., 2020, arXiv:2006.11239)."""

    def down(self, channels: int, resampler: Resampler, **options: Any) -> nn.Module:
        """Build a convolution that halves."""
        del options
        return IgnoreEmbedding(resampler.down_convolution(channels, channels))

    def up(self, channels: int, resampler: Resampler, **options: Any) -> nn.Module:
        """Build a convolution that doubles."""
        del options
        return IgnoreEmbedding(resampler.up_convolution(channels, channels))


@dataclass(frozen=True, kw_only=True)
class PlainResample(LevelResample):
    """Resampling without learned parameters."""

    def down(self, channels: int, resampler: Resampler, **options: Any) -> nn.Module:
        """Return the module that halves the sides."""
        del channels, options
        return _Down(resampler)

    def up(self, channels: int, resampler: Resampler, **options: Any) -> nn.Module:
        """Return the module that doubles the sides."""
        del channels, options
        return _Up(resampler)


class _Down(nn.Module):
    def __init__(self, resampler: Resampler) -> None:
        super().__init__()
        self.resampler = resampler

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        del embedding
        return self.resampler.down(x)


class _Up(_Down):
    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        del embedding
        return self.resampler.up(x)
