"""T5's encoder of texts."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sde_gen.model.text.clip import Activation


class T5Features(NamedTuple):
    """Features of texts.

    Attributes:
        hidden: inputs of the first layer and outputs of every layer, each with shape (B, L, W).
        last: the last of them, normalized.
    """

    hidden: tuple[Tensor, ...]
    last: Tensor


class T5Text(nn.Module):
    """A transformer without causal mask, whose attention has a learned bias for every distance of two tokens.

    Sources: Raffel et al., 2019, arXiv:1910.10683, section 2.1; gated units: Shazeer, 2020, arXiv:2002.05202.

    Arguments:
        vocabulary: number of tokens.
        width: features W of a token.
        depth: number of layers.
        heads: number of heads.
        head: features of a head.
        hidden: units of the dense layers.
        activation: function of the units.
        gated: whether the units are multiplied by a second linear function.
        buckets: number of distances that are distinguished, both directions together.
        distance: distance from which on all are in one bucket.
        eps: epsilon of the normalizations.

    Raises:
        ValueError: a size is not positive, or there are too few buckets or distances.
    """

    def __init__(
        self,
        *,
        vocabulary: int,
        width: int,
        depth: int,
        heads: int,
        head: int,
        hidden: int,
        activation: Activation,
        gated: bool = True,
        buckets: int = 32,
        distance: int = 128,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        if min(vocabulary, width, depth, heads, head, hidden) < 1:
            raise ValueError(
                f"vocabulary={vocabulary}, width={width}, depth={depth}, heads={heads}, head={head}, "
                f"hidden={hidden}: expected positive numbers"
            )
        if buckets < 4 or distance <= buckets // 4:
            raise ValueError(
                f"buckets={buckets}, distance={distance}: expected at least 4 buckets, and a distance above a quarter "
                "of them"
            )
        self.width, self.buckets, self.distance = width, buckets, distance
        self.table = nn.Embedding(vocabulary, width)
        self.bias = nn.Embedding(buckets, heads)
        self.blocks = nn.ModuleList(
            T5Block(width, heads, head, hidden, activation, gated, eps) for _ in range(depth)
        )
        self.norm = Norm(width, eps)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> T5Features:
        """Encode texts.

        Arguments:
            tokens: int64 with shape (B, L).
            mask: which of them are attended to, with shape (B, L); None: all, padding included.
        """
        place = torch.arange(tokens.shape[1], device=tokens.device)
        bias = self.bias(bucket(place - place[:, None], self.buckets, self.distance)).permute(2, 0, 1)[None]
        if mask is not None:
            bias = bias.masked_fill(~mask[:, None, None].bool(), torch.finfo(bias.dtype).min)
        hidden = [self.table(tokens)]
        for block in self.blocks:
            hidden.append(block(hidden[-1], bias))
        return T5Features(tuple(hidden), self.norm(hidden[-1]))


class T5Block(nn.Module):
    """Attention and dense layers, each after a normalization and beside a skip connection; nothing has a bias.

    The products of queries and keys are not scaled.
    """

    def __init__(
        self, width: int, heads: int, head: int, hidden: int, activation: Activation, gated: bool, eps: float
    ) -> None:
        super().__init__()
        self.heads, self.activation = heads, activation
        self.norm_attention, self.norm_mlp = Norm(width, eps), Norm(width, eps)
        self.query, self.key, self.value = (nn.Linear(width, heads * head, bias=False) for _ in range(3))
        self.out = nn.Linear(heads * head, width, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.gate = nn.Linear(width, hidden, bias=False) if gated else None
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Apply the block to x (B, L, W); the bias has shape (B or 1, heads, L, L)."""
        h = self.norm_attention(x)
        query, key, value = (
            layer(h).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        weight = torch.softmax(query @ key.mT + bias, dim=-1)
        x = x + self.out((weight @ value).transpose(1, 2).flatten(2))
        h = self.norm_mlp(x)
        units = self.activation(self.up(h))
        out: Tensor = x + self.down(units if self.gate is None else units * self.gate(h))
        return out


class Norm(nn.Module):
    """``scale x / sqrt(mean(x^2) + eps)`` along the last axis (Zhang and Sennrich, 2019, arXiv:1910.07467)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.scale, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalize (..., width); the mean square in float32 or finer."""
        square = x.to(torch.promote_types(x.dtype, torch.float32)).square().mean(-1, keepdim=True)
        return x * (square + self.eps).rsqrt().to(x.dtype) * self.scale


def bucket(relative: Tensor, buckets: int, distance: int) -> Tensor:
    """Return the bucket of a place relative to another.

    Half of the buckets are for each direction. Half of those hold one small distance each, the others geometrically
    growing ones up to ``distance``. Their limits are those of float32, as in all published weights.

    Source: Raffel et al., 2019, arXiv:1910.10683, section 2.1; relative_position_bucket in their mesh_tensorflow.

    Arguments:
        relative: whole numbers of any shape, positive for what comes later.
        buckets: number of buckets.
        distance: distance from which on all are in the last one.
    """
    half = buckets // 2
    single = half // 2
    apart = relative.abs()
    growth = torch.log(apart.clamp(min=1).float() / single) / math.log(distance / single)
    grown = (single + (growth * (half - single)).long()).clamp(max=half - 1)
    return half * (relative > 0).long() + torch.where(apart < single, apart, grown)
