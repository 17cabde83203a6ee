"""Attention of the levels of a U-Net with conditions: to the pixels, to the tokens of a text, and to both together."""

import abc
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sde_gen.model.norms import GroupNorm
from sde_gen.model.transformer.blocks import attend
from sde_gen.model.unet.blocks import linear
from sde_gen.model.unet.spatial_transformer import SpatialTransformer


@dataclass(frozen=True, kw_only=True)
class LevelAttention(abc.ABC):
    """Abstract attention after the residual blocks of a level.

    Arguments:
        heads: number of heads.

    Raises:
        ValueError: a number is not positive.
    """

    heads: int

    def __post_init__(self) -> None:
        if self.heads < 1:
            raise ValueError(f"heads={self.heads}: expected a positive number")

    @property
    @abc.abstractmethod
    def reads_text(self) -> bool:
        """Return whether pixels attend to tokens."""

    @abc.abstractmethod
    def layer(self, channels: int, index: int, groups: int) -> nn.Module:
        """Build the layer after a residual block, called with features, tokens and mask.

        Arguments:
            channels: channels of the features.
            index: number of the residual block in its level, and in its direction.
            groups: groups of the normalization.
        """


@dataclass(frozen=True, kw_only=True)
class TransformerAttention(LevelAttention):
    """Transformer blocks of self-attention, cross-attention and gated linear units.

    Source: Rombach et al., 2022, arXiv:2112.10752, section 3.3 and appendix E.2.1.

    Arguments:
        heads: number of heads.
        depths: transformer blocks after every residual block of the level.
        context: features of a token of the text.
        text_only: whether pixels attend to the text in the place of each other.
    """

    depths: Sequence[int]
    context: int
    text_only: bool = False

    @property
    def reads_text(self) -> bool:
        """Return that pixels attend to tokens."""
        return True

    def layer(self, channels: int, index: int, groups: int) -> nn.Module:
        """Build the transformer."""
        return SpatialTransformer(
            channels,
            self.heads,
            self.context,
            self.depths[index],
            GroupNorm(groups, channels, eps=1e-6),
            text_only=self.text_only,
        )


@dataclass(frozen=True, kw_only=True)
class TextAndPixelAttention(LevelAttention):
    """One attention of every pixel to all tokens and all pixels.

    Source: Nichol et al., 2021, arXiv:2112.10741 (GLIDE), section 4.1.

    Arguments:
        heads: number of heads.
        context: features of a token of the text.
        text_only: whether pixels do not attend to each other.
        context_groups: groups of a normalization of the tokens, over all of them; None for none.
    """

    context: int
    text_only: bool = False
    context_groups: int | None = None

    @property
    def reads_text(self) -> bool:
        """Return that pixels attend to tokens."""
        return True

    def layer(self, channels: int, index: int, groups: int) -> nn.Module:
        """Build the attention."""
        del index
        return TextAttention(
            channels,
            self.heads,
            GroupNorm(groups, channels, eps=1e-5),
            context=self.context,
            norm_text=None
            if self.context_groups is None
            else GroupNorm(self.context_groups, self.context, eps=1e-5),
            text_only=self.text_only,
        )


@dataclass(frozen=True, kw_only=True)
class PixelAttention(LevelAttention):
    """Attention of pixels to each other alone.

    Source: Ho et al., 2020, arXiv:2006.11239, appendix B.

    Arguments:
        heads: number of heads.
        eps: epsilon of the normalization.
    """

    eps: float = 1e-5

    @property
    def reads_text(self) -> bool:
        """Return that pixels do not attend to tokens."""
        return False

    def layer(self, channels: int, index: int, groups: int) -> nn.Module:
        """Build the attention."""
        del index
        return TextAttention(channels, self.heads, GroupNorm(groups, channels, eps=self.eps))


class TextAttention(nn.Module):
    """Attention of pixels to the tokens of a text and to each other, beside a skip connection.

    Arguments:
        channels: channels of the features.
        heads: number of heads, which divides the channels.
        normalize: normalization of the features.
        context: features of a token; None for no text.
        norm_text: normalization of the tokens (B, context, L); None for none.
        text_only: whether pixels do not attend to each other.

    Raises:
        ValueError: the heads do not divide the channels.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        normalize: nn.Module,
        *,
        context: int | None = None,
        norm_text: nn.Module | None = None,
        text_only: bool = False,
    ) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels cannot be shared evenly by heads={heads}")
        self.heads, self.norm, self.norm_text = heads, normalize, norm_text
        self.query = nn.Linear(channels, channels)
        self.key = None if text_only else nn.Linear(channels, channels)
        self.value = None if text_only else nn.Linear(channels, channels)
        self.text_key = None if context is None else nn.Linear(context, channels)
        self.text_value = None if context is None else nn.Linear(context, channels)
        self.out = linear(channels, channels, zero=True)

    def forward(self, x: Tensor, tokens: Tensor | None, mask: Tensor | None) -> Tensor:
        """Attend: x (B, C, H, W) to tokens (B, L, context), of which those in the mask (B, L), to the shape of x."""
        h = self.norm(x).flatten(2).transpose(1, 2)
        keys, values = [], []
        if self.text_key is not None and self.text_value is not None and tokens is not None:
            if self.norm_text is not None:
                tokens = self.norm_text(tokens.transpose(1, 2)).transpose(1, 2)
            keys.append(self.text_key(tokens))
            values.append(self.text_value(tokens))
        if self.key is not None and self.value is not None:
            keys.append(self.key(h))
            values.append(self.value(h))
        if mask is not None and len(keys) == 2:
            mask = torch.cat([mask, mask.new_ones(len(mask), h.shape[1])], dim=1)
        query, key, value = (
            torch.unflatten(part, 2, (self.heads, -1)).transpose(1, 2)
            for part in (self.query(h), torch.cat(keys, 1), torch.cat(values, 1))
        )
        visible = mask if self.text_key is not None else None
        mixed = self.out(attend(query, key, value, visible))
        out: Tensor = x + mixed.transpose(1, 2).unflatten(2, x.shape[2:])
        return out
