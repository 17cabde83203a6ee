"""Layers of transformers of images."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sde_gen.model.unet.blocks import Dropout, initialize


def dense(inputs: int, outputs: int, *, zero: bool = False) -> nn.Linear:
    """A dense layer without bias; Glorot-uniform weights, or zeros."""
    return initialize(nn.Linear(inputs, outputs, bias=False), zero=zero)


def unit(x: Tensor, eps: float) -> Tensor:
    """``x / sqrt(|x|^2 + eps)`` along the last axis; the length in float32 or finer."""
    square = x.to(torch.promote_types(x.dtype, torch.float32)).square().sum(-1, keepdim=True)
    return x * (square + eps).rsqrt().to(x.dtype)


class RMSNorm(nn.Module):
    """``scale x / sqrt(mean(x^2) + 1e-6)`` along the last axis (Zhang and Sennrich, 2019, arXiv:1910.07467)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize features of shape (..., width) over the last dimension."""
        out: Tensor = _rms(x) * self.scale.to(x.dtype)
        return out


class AdaRMSNorm(nn.Module):
    """RMS normalization whose scale, near one, is a function of the features of a mapping network.

    Source: Crowson et al., 2024, arXiv:2401.11605, section 4 (adaptive RMS norm).
    """

    def __init__(self, width: int, features: int) -> None:
        super().__init__()
        self.embed = dense(features, width, zero=True)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        """Normalize x (B, H, W, width) with the features (B, features)."""
        out: Tensor = _rms(x) * (1 + self.embed(cond)[:, None, None]).to(x.dtype)
        return out


def _rms(x: Tensor) -> Tensor:
    """The length over the root of the number of features is the root of the mean square."""
    return unit(x, x.shape[-1] * 1e-6) * math.sqrt(x.shape[-1])


class FeedForward(nn.Module):
    """A residual layer of gated linear units, ``x + down(a gelu(b))`` with ``(a, b) = up(norm(x))``.

    Source: Shazeer, 2020, arXiv:2002.05202 (GEGLU).

    Arguments:
        norm: the normalization before it, called with the layer's conditioning.
        width: features.
        hidden: units.
        dropout: dropout rate.
    """

    def __init__(self, norm: nn.Module, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm = norm
        self.up = dense(width, 2 * hidden)
        self.dropout = Dropout(dropout)
        self.down = dense(hidden, width, zero=True)

    def forward(self, x: Tensor, *cond: Tensor) -> Tensor:
        """Apply the layer to x (..., width)."""
        value, gate = self.up(self.norm(x, *cond)).chunk(2, dim=-1)
        out: Tensor = x + self.down(self.dropout(value * F.gelu(gate)))
        return out


class CosineAttention(nn.Module):
    """Residual self-attention by the cosine of query and key, times a learned number for every head.

    Source: Crowson et al., 2024, arXiv:2401.11605, section 4; cosine similarity: Henry et al., 2020,
    arXiv:2010.04245.

    Arguments:
        width: features.
        heads: number of heads, which divides the features.
        features: features of the mapping network.
        mixer: maps queries, keys and values (B, heads, H, W, head) to mixtures of values.
        rotary: rotates queries and keys.
        dropout: dropout rate.
        eps: added to the squared length of queries and keys.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        features: int,
        *,
        mixer: nn.Module,
        rotary: nn.Module,
        dropout: float,
        eps: float,
    ) -> None:
        super().__init__()
        self.norm = AdaRMSNorm(width, features)
        self.qkv = dense(width, 3 * width)
        self.scale = nn.Parameter(torch.full((heads,), 10.0))
        self.rotary = rotary
        self.mixer = mixer
        self.dropout = Dropout(dropout)
        self.out = dense(width, width, zero=True)
        self.eps = eps

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        """Attend: x (B, H, W, width) with the features (B, features) to the shape of x."""
        qkv = self.qkv(self.norm(x, cond)).unflatten(3, (3, len(self.scale), -1))
        query, key, value = qkv.permute(3, 0, 4, 1, 2, 5).unbind()
        query = unit(query, self.eps) * self.scale.view(-1, 1, 1, 1).to(query.dtype)
        mixed = self.mixer(self.rotary(query), self.rotary(unit(key, self.eps)), value)
        out: Tensor = x + self.out(self.dropout(mixed.permute(0, 2, 3, 1, 4).flatten(3)))
        return out


class Layer(nn.Module):
    """Attention, if there is any, and a feed-forward layer.

    Arguments:
        attention: the attention, None for none.
        width: features.
        hidden: units of the feed-forward layer.
        features: features of the mapping network.
        dropout: dropout rate.
    """

    def __init__(
        self, attention: nn.Module | None, width: int, hidden: int, features: int, dropout: float
    ) -> None:
        super().__init__()
        self.attention = attention
        self.feed_forward = FeedForward(AdaRMSNorm(width, features), width, hidden, dropout)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        """Apply the layer to x (B, H, W, width) with the features (B, features)."""
        if self.attention is not None:
            x = self.attention(x, cond)
        out: Tensor = self.feed_forward(x, cond)
        return out


class MappingNetwork(nn.Module):
    """Mapping network: feed-forward layers between two normalizations.

    Source: Karras et al., 2019, arXiv:1812.04948, section 2; with these layers: Crowson et al., 2024, arXiv:2401.11605.

    Arguments:
        features: features.
        depth: number of layers.
        hidden: units of a layer.
        dropout: dropout rate.
    """

    def __init__(self, features: int, depth: int, hidden: int, dropout: float) -> None:
        super().__init__()
        of_layer: dict[str, Any] = {"width": features, "hidden": hidden, "dropout": dropout}
        self.norm_in = RMSNorm(features)
        self.layers = nn.ModuleList(FeedForward(RMSNorm(features), **of_layer) for _ in range(depth))
        self.norm_out = RMSNorm(features)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, features) to the same."""
        x = self.norm_in(x)
        for layer in self.layers:
            x = layer(x)
        out: Tensor = self.norm_out(x)
        return out
