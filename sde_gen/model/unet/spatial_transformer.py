"""Transformer blocks on feature maps, with attention to the tokens of a text."""

from torch import Tensor, nn

from sde_gen.model.transformer.blocks import GEGLU, Attention
from sde_gen.model.unet.blocks import convolution_of


class CrossAttentionBlock(nn.Module):
    """Self-attention, attention to a context and gated linear units, each after a normalization and beside a skip.

    Source: Rombach et al., 2022, arXiv:2112.10752, section 3.3 and appendix E.2.1.

    Arguments:
        width: features of a token.
        heads: number of heads, which divides the features.
        context: features of a token of the context; None for none.
        text_only: whether the first attention is to the context, too, to all of it.
    """

    def __init__(self, width: int, heads: int, context: int | None, *, text_only: bool = False) -> None:
        super().__init__()
        self.text_only = text_only
        self.norm_self = nn.LayerNorm(width)
        self.self_attention = Attention(width, heads, context=context if text_only else None, bias=False)
        self.norm_cross = None if context is None else nn.LayerNorm(width)
        self.cross_attention = (
            None if context is None else Attention(width, heads, context=context, bias=False)
        )
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = GEGLU(width, 4 * width)

    def forward(self, x: Tensor, context: Tensor | None, mask: Tensor | None) -> Tensor:
        """Apply the block to x (B, N, width), a context (B, M, context) and its mask (B, M)."""
        x = x + self.self_attention(self.norm_self(x), context if self.text_only else None)
        if self.cross_attention is not None and self.norm_cross is not None:
            x = x + self.cross_attention(self.norm_cross(x), context, mask)
        out: Tensor = x + self.mlp(self.norm_mlp(x))
        return out


class SpatialTransformer(nn.Module):
    """Transformer blocks on the pixels of a feature map, between two 1x1 convolutions and beside a skip connection.

    Source: Rombach et al., 2022, arXiv:2112.10752, appendix E.2.1 (table 15).

    Arguments:
        channels: channels of the feature map; a token has as many features, or the next fewer that the heads share.
        heads: number of heads.
        context: features of a token of the context; None for none.
        depth: number of blocks.
        normalize: the normalization before them.
        rank: number of axes of the feature map.
        text_only: whether the first attention of a block is to the context, too.

    Raises:
        ValueError: there are more heads than channels.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        context: int | None,
        depth: int,
        normalize: nn.Module,
        rank: int = 2,
        *,
        text_only: bool = False,
    ) -> None:
        super().__init__()
        if heads > channels:
            raise ValueError(f"heads={heads}: expected at most the {channels} channels")
        width = channels // heads * heads
        self.norm = normalize
        self.project_in = convolution_of(rank, channels, width, 1)
        self.blocks = nn.ModuleList(
            CrossAttentionBlock(width, heads, context, text_only=text_only) for _ in range(depth)
        )
        self.project_out = convolution_of(rank, width, channels, 1, zero=True)

    def forward(self, x: Tensor, context: Tensor | None, mask: Tensor | None) -> Tensor:
        """Apply the blocks to (B, C, *sides)."""
        h = self.project_in(self.norm(x))
        sides = h.shape[2:]
        tokens = h.flatten(2).transpose(1, 2)
        for block in self.blocks:
            tokens = block(tokens, context, mask)
        out: Tensor = x + self.project_out(tokens.transpose(1, 2).unflatten(2, sides))
        return out
