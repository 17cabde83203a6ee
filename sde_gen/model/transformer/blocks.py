"""Attention among tokens in a row, and to tokens of a context, with masks."""

import torch.nn.functional as F
from torch import Tensor, nn

from sde_gen.model.activation import Activation, ActivationLayer
from sde_gen.model.transformer.attention import mixed
from sde_gen.model.transformer.layers import RMSNorm
from sde_gen.model.unet.blocks import linear


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attend by heads.

    Arguments:
        query: (B, heads, N, head).
        key: (B, heads, M, head).
        value: (B, heads, M, head).
        mask: which of the M are attended to, with shape (B, M); None: all.

    Returns:
        (B, N, heads * head).
    """
    scaled = query * query.shape[-1] ** -0.5
    visible = None if mask is None else mask[:, None, None]
    return mixed(scaled, key, value, visible).transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """Attention of tokens to themselves or to a context.

    Source: Vaswani et al., 2017, arXiv:1706.03762, section 3.2.

    Arguments:
        width: features of a token.
        heads: number of heads, which divides the features.
        context: features of a token of the context; None: attention of the tokens to themselves.
        qk_norm: RMS normalization of every head of queries and keys (Henry et al., 2020, arXiv:2010.04245).
        bias: whether the projections to queries, keys and values have biases.
        zero: whether the last projection is zero at first.

    Raises:
        ValueError: heads do not divide the features.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        context: int | None = None,
        qk_norm: bool = False,
        bias: bool = True,
        zero: bool = False,
    ) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"width={width} cannot be shared evenly by heads={heads} heads of attention")
        self.heads = heads
        inputs = width if context is None else context
        self.query = nn.Linear(width, width, bias=bias)
        self.key = nn.Linear(inputs, width, bias=bias)
        self.value = nn.Linear(inputs, width, bias=bias)
        self.norm_query = RMSNorm(width // heads) if qk_norm else nn.Identity()
        self.norm_key = RMSNorm(width // heads) if qk_norm else nn.Identity()
        self.out = linear(width, width, zero=zero)

    def forward(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Attend.

        Arguments:
            x: tokens with shape (B, N, width).
            context: tokens that they attend to, with shape (B, M, context); None: x.
            mask: which of these, with shape (B, M); None: all.

        Returns:
            (B, N, width).
        """
        out: Tensor = self.out(attend(*self.heads_of(x, x if context is None else context), mask))
        return out

    def heads_of(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries of x, keys and values of the context, each with shape (B, heads, tokens, head)."""
        query, key, value = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in (self.query(x), self.key(context), self.value(context))
        )
        return self.norm_query(query), self.norm_key(key), value


class TransformerMLP(nn.Sequential):
    """Two dense layers with an activation in between.

    Arguments:
        width: features.
        hidden: units.
        zero: whether the last layer is zero at first.
        activation: function in between; None for the tanh approximation of GELU.
    """

    def __init__(
        self, width: int, hidden: int, *, zero: bool = False, activation: Activation | None = None
    ) -> None:
        super().__init__(
            linear(width, hidden),
            nn.GELU(approximate="tanh") if activation is None else ActivationLayer(activation),
            linear(hidden, width, zero=zero),
        )


class GEGLU(nn.Module):
    """Gated linear units, ``down(a gelu(b))`` with ``(a, b) = up(x)`` (Shazeer, 2020, arXiv:2002.05202).

    Arguments:
        width: features.
        hidden: units.
        zero: whether the last layer is zero at first.
    """

    def __init__(self, width: int, hidden: int, *, zero: bool = False) -> None:
        super().__init__()
        self.up = linear(width, 2 * hidden)
        self.down = linear(hidden, width, zero=zero)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to (..., width)."""
        value, gate = self.up(x).chunk(2, dim=-1)
        out: Tensor = self.down(value * F.gelu(gate))
        return out


class TransformerBlock(nn.Module):
    """Attention and two dense layers, each after a normalization and beside a skip connection.

    Arguments:
        width: features of a token.
        heads: number of heads, which divides the features.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = TransformerMLP(width, 4 * width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Apply the block to x (B, N, width), of which only those in the mask (B, N) are attended to."""
        h = self.norm_attention(x)
        x = x + self.attention(h, mask=mask)
        out: Tensor = x + self.mlp(self.norm_mlp(x))
        return out
