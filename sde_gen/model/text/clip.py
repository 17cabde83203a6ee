"""CLIP's encoder of texts."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

Activation = Callable[[Tensor], Tensor]


class CLIPFeatures(NamedTuple):
    """Features of texts.

    Attributes:
        hidden: inputs of the first layer and outputs of every layer, each with shape (B, L, W).
        last: the last of them, normalized.
        pooled: ``last`` at the mark of the end with shape (B, W).
        projected: ``pooled`` in the space shared with images with shape (B, P); None without projection.
    """

    hidden: tuple[Tensor, ...]
    last: Tensor
    pooled: Tensor
    projected: Tensor | None


class CLIPText(nn.Module):
    """A causal transformer with learned positions; the features at the mark of the end stand for the text.

    Source: Radford et al., 2021, arXiv:2103.00020, section 2.4.

    Arguments:
        vocabulary: number of tokens.
        length: most tokens of a text.
        width: features W of a token.
        depth: number of layers.
        heads: number of heads, which divides the features.
        hidden: units of the dense layers.
        activation: function between them.
        eps: epsilon of the normalizations.
        projection: features P of the projection; None for none.
        end: token of the end, the first of which is pooled; None: the token with the largest number.

    Raises:
        ValueError: a size is not positive, or heads do not divide the features.
    """

    def __init__(
        self,
        *,
        vocabulary: int,
        length: int,
        width: int,
        depth: int,
        heads: int,
        hidden: int,
        activation: Activation,
        eps: float = 1e-5,
        projection: int | None = None,
        end: int | None = None,
    ) -> None:
        super().__init__()
        if min(vocabulary, length, width, depth, heads, hidden) < 1 or width % heads:
            raise ValueError(
                f"vocabulary={vocabulary}, length={length}, width={width}, depth={depth}, heads={heads}, "
                f"hidden={hidden}: expected positive numbers, and heads that divide the width"
            )
        self.length, self.width, self.end = length, width, end
        self.table = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(0.01 * torch.randn(length, width))
        self.blocks = nn.ModuleList(CLIPBlock(width, heads, hidden, activation, eps) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=eps)
        self.project = None if projection is None else nn.Linear(width, projection, bias=False)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> CLIPFeatures:
        """Encode texts.

        Arguments:
            tokens: int64 with shape (B, L), L at most ``length``.
            mask: which of them are attended to, with shape (B, L); None: all, padding included.

        Raises:
            ValueError: a text is longer.
        """
        if tokens.ndim != 2 or tokens.shape[1] > self.length:
            raise ValueError(f"tokens have shape {tuple(tokens.shape)}; expected (B, at most {self.length})")
        count = tokens.shape[1]
        visible = torch.ones(count, count, dtype=torch.bool, device=tokens.device).tril()[None, None]
        if mask is not None:
            visible = visible & mask[:, None, None].bool()
        hidden = [self.table(tokens) + self.positions[:count]]
        lowest = torch.finfo(hidden[0].dtype).min
        added = torch.zeros_like(visible, dtype=hidden[0].dtype).masked_fill(~visible, lowest)
        for block in self.blocks:
            hidden.append(block(hidden[-1], added))
        last = self.norm(hidden[-1])
        place = tokens.argmax(1) if self.end is None else (tokens == self.end).int().argmax(1)
        pooled = last[torch.arange(len(last), device=last.device), place]
        return CLIPFeatures(
            tuple(hidden), last, pooled, None if self.project is None else self.project(pooled)
        )


class CLIPBlock(nn.Module):
    """Attention and two dense layers, each after a normalization and beside a skip connection."""

    def __init__(self, width: int, heads: int, hidden: int, activation: Activation, eps: float) -> None:
        super().__init__()
        self.heads, self.activation = heads, activation
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor, added: Tensor) -> Tensor:
        """Apply the block to x (B, L, W); ``added`` (B or 1, 1, L, L) is added to the weights before the softmax."""
        h = self.norm_attention(x)
        query, key, value = (
            layer(h).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        weight = torch.softmax((query * query.shape[-1] ** -0.5) @ key.mT + added, dim=-1)
        x = x + self.out((weight @ value).transpose(1, 2).flatten(2))
        out: Tensor = x + self.down(self.activation(self.up(self.norm_mlp(x))))
        return out


def quick_gelu(x: Tensor) -> Tensor:
    """``x sigmoid(1.702 x)`` (Hendrycks and Gimpel, 2016, arXiv:1606.08415, section 2)."""
    return x * torch.sigmoid(1.702 * x)
