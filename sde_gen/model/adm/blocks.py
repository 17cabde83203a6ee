"""Blocks of ADM and the builder of its stages."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sde_gen.model.adm.level_resample import LevelResample
from sde_gen.model.norms import GCDGroups, GroupNormRule
from sde_gen.model.unet.blocks import Dropout, convolution_of, linear
from sde_gen.model.unet.resample import Resampler


@dataclass(frozen=True, kw_only=True)
class ADMBuilder:
    """Builder of the blocks and stages of ADM networks.

    Arguments:
        embedding: features of the embedding that the blocks see.
        dropout: dropout rate.
        modulated: whether the embedding scales and shifts the second normalization of a block, or is added before it.
        change: how the resolution changes between two levels, None for blocks like the others.
        norms: rule of the normalizations.
        attention_levels: levels with attention, 0 being the finest.
        head_channels: channels of a head of attention; fewer where a level has no multiple of them.
        heads: number of heads at every level in place of ``head_channels``, None for those.
        resampler: the change of resolution.
        wide_heads: whether heads have ``head_channels`` at least, as many of them as there are, in place of at most;
            fewer channels than that do not attend.
        down_changes: how the resolution changes in the encoder path, one for each pair of neighboring levels, fine to
            coarse; None for ``change`` everywhere.
        up_changes: the same in the decoder path, fine to coarse too.

    Raises:
        ValueError: heads or their channels are not positive; or, when called, do not share the channels evenly.
    """

    embedding: int
    dropout: float
    modulated: bool
    change: LevelResample | None
    norms: GroupNormRule
    attention_levels: Sequence[int]
    head_channels: int
    heads: int | None
    resampler: Resampler
    wide_heads: bool = False
    down_changes: Sequence[LevelResample | None] | None = None
    up_changes: Sequence[LevelResample | None] | None = None

    def __post_init__(self) -> None:
        if self.head_channels < 1 or (self.heads is not None and self.heads < 1):
            raise ValueError(
                f"head_channels={self.head_channels}, heads={self.heads}: both must be at least 1"
            )

    def block(self, inputs: int, outputs: int, **more: Any) -> nn.Module:
        """Build a residual block."""
        kind = AdaptiveBlock if self.modulated else AddedBlock
        more = {"rank": self.resampler.rank, **more}
        return kind(inputs, outputs, embedding=self.embedding, dropout=self.dropout, norms=self.norms, **more)

    def attention(self, channels: int, normalize: nn.Module, heads: int | None = None) -> nn.Module:
        """Build an attention block with normalization; None derives the number of heads by the rule."""
        if heads is None:
            heads = channels // self.head_channels if self.wide_heads and self.heads is None else self.heads
        if heads == 0:
            return nn.Identity()
        if heads is not None and channels % heads:
            raise ValueError(f"{channels} channels cannot be shared evenly by heads={heads}")
        most = self.head_channels if heads is None else channels // heads
        return HeadedAttention(channels, most, normalize, self.resampler.rank)

    def attend(self, level: int, channels: int, heads: int | None = None) -> nn.Module:
        """Build the attention block of a level with attention; None derives the number of heads by the rule."""
        if level not in self.attention_levels:
            return nn.Identity()
        return self.attention(channels, self.norms.attention(channels), heads)

    def halve(self, level: int, channels: int) -> nn.Module:
        """Build the downsampling module after a level."""
        change = self.change if self.down_changes is None else self.down_changes[level]
        if change is not None:
            return change.down(channels, self.resampler)
        return self.block(channels, channels, resample=self.resampler.down)

    def double(self, level: int, channels: int) -> nn.Module:
        """Build the upsampling module towards a level."""
        change = self.change if self.up_changes is None else self.up_changes[level]
        if change is not None:
            return change.up(channels, self.resampler)
        return self.block(channels, channels, resample=self.resampler.up)

    def down(self, widths: Sequence[int], blocks: int) -> tuple[nn.ModuleList, list[int]]:
        """Build the encoder stages, and return them with the channels of the stem and of each stage."""
        stages, channels = nn.ModuleList(), [widths[0]]
        for level, width in enumerate(widths):
            if level > 0:
                stages.append(ADMStage(self.halve(level - 1, channels[-1])))
                channels.append(channels[-1])
            for _ in range(blocks):
                block = self.block(channels[-1], width)
                stages.append(ADMStage(block, self.attend(level, width)))
                channels.append(width)
        return stages, channels

    def middle(self, channels: int, *, attention: bool = True) -> nn.ModuleList:
        """Build the stages at the coarsest level, with attention between their blocks or without."""
        block = self.block(channels, channels)
        mixed = self.attention(channels, self.norms.middle(channels)) if attention else None
        return nn.ModuleList([ADMStage(block, mixed), ADMStage(self.block(channels, channels))])


class ADMStage(nn.Module):
    """A residual block, attention after it or not, and perhaps a block that changes the resolution."""

    def __init__(self, block: nn.Module, attention: nn.Module | None = None, *finer: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.attention = nn.Identity() if attention is None else attention
        self.finer = nn.ModuleList(finer)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Apply the layers in order."""
        x = self.attention(self.block(x, embedding))
        for block in self.finer:
            x = block(x, embedding)
        return x


class AdaptiveBlock(nn.Module):
    """A residual block whose second normalization is scaled and shifted by the embedding.

    Source: Dhariwal and Nichol, 2021, arXiv:2105.05233, section 3.1 (adaptive group normalization).

    Arguments:
        inputs: input channels.
        outputs: output channels.
        embedding: features of the embedding.
        dropout: dropout rate.
        norms: rule of the normalizations.
        resample: change of the resolution of both branches.
        rank: number of axes of the features: 1, 2 or 3.
    """

    embedded: ClassVar[int] = 2

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        embedding: int,
        dropout: float,
        norms: GroupNormRule = GCDGroups(),  # noqa: B008 (frozen)
        resample: Callable[[Tensor], Tensor] | None = None,
        rank: int = 2,
    ) -> None:
        super().__init__()
        self.norm_in = norms.block(inputs)
        self.conv_in = convolution_of(rank, inputs, outputs)
        self.embed = linear(embedding, self.embedded * outputs)
        self.norm_out = norms.block(outputs)
        self.dropout = Dropout(dropout)
        self.conv_out = convolution_of(rank, outputs, outputs, zero=True)
        self.skip: nn.Module = (
            nn.Identity() if inputs == outputs else convolution_of(rank, inputs, outputs, 1)
        )
        self.resample = resample

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Apply the block to x (B, inputs, *sides) and the embedding (B, embedding)."""
        h = F.silu(self.norm_in(x))
        if self.resample is not None:
            x, h = self.resample(x), self.resample(h)
        embedded = self.embed(embedding).unflatten(1, (-1, *[1] * (x.ndim - 2)))
        h = F.silu(self.condition(self.conv_in(h), embedded))
        out: Tensor = self.skip(x) + self.conv_out(self.dropout(h))
        return out

    def condition(self, h: Tensor, embedding: Tensor) -> Tensor:
        """Normalize, scale and shift."""
        scale, shift = embedding.chunk(2, dim=1)
        out: Tensor = self.norm_out(h) * (1 + scale) + shift
        return out


class AddedBlock(AdaptiveBlock):
    """A residual block to which the embedding is added before the second normalization.

    Source: Ho et al., 2020, arXiv:2006.11239, appendix B.
    """

    embedded: ClassVar[int] = 1

    def condition(self, h: Tensor, embedding: Tensor) -> Tensor:
        """Add the embedding and normalize."""
        out: Tensor = self.norm_out(h + embedding)
        return out


class Heads(nn.Module):
    """Multi-head attention over the pixels, to be combined with a normalization.

    Source: Vaswani et al., 2017, arXiv:1706.03762, section 3.2.2.

    Arguments:
        norm: the normalization before it.
        channels: channels of the feature map.
        heads: number of heads, which divides the channels.
        dropout: dropout rate of the weights of the values.
        rank: number of axes of the feature map: 1, 2 or 3.
    """

    def __init__(
        self, norm: nn.Module, channels: int, heads: int, dropout: float = 0.0, rank: int = 2
    ) -> None:
        super().__init__()
        self.heads = heads
        self.norm = norm
        self.qkv = convolution_of(rank, channels, 3 * channels, 1)
        self.dropout = Dropout(dropout)
        self.out = convolution_of(rank, channels, channels, 1, zero=True)

    def mix(self, h: Tensor) -> Tensor:
        """Attend: normalized features (B, C, *sides) to what is added to those before."""
        query, key, value = self.qkv(h).unflatten(1, (3, self.heads, -1)).flatten(4).unbind(1)
        weight = torch.softmax(query.transpose(2, 3) @ key * query.shape[2] ** -0.5, dim=3)
        out: Tensor = self.out((value @ self.dropout(weight).transpose(2, 3)).reshape(h.shape))
        return out


class HeadedAttention(Heads):
    """Self-attention over the pixels with several heads.

    Arguments:
        channels: channels of the feature map.
        head_channels: channels of a head, at most.
        normalize: the normalization before it, None for that of ADM.
        rank: number of axes of the feature map: 1, 2 or 3.
    """

    def __init__(
        self, channels: int, head_channels: int, normalize: nn.Module | None = None, rank: int = 2
    ) -> None:
        heads = next(channels // n for n in range(min(head_channels, channels), 0, -1) if channels % n == 0)
        normalize = GCDGroups().block(channels) if normalize is None else normalize
        super().__init__(normalize, channels, heads, rank=rank)

    def forward(self, x: Tensor) -> Tensor:
        """Apply attention to (B, C, *sides)."""
        out: Tensor = x + self.mix(self.norm(x))
        return out
