"""Transformer blocks that are modulated by an embedding: adaLN-zero."""

import torch
from torch import Tensor, nn

from sde_gen.model.activation import Activation
from sde_gen.model.transformer.blocks import Attention, TransformerMLP, attend
from sde_gen.model.transformer.layers import RMSNorm
from sde_gen.model.unet.blocks import linear

EPS = 1e-6


class Modulation(nn.Module):
    """Shifts, scales and gates of the layers of a block, zero at first, as functions of an embedding.

    Source: Peebles and Xie, 2022, arXiv:2212.09748, section 3.2 (adaLN-zero).

    Arguments:
        features: features of the embedding.
        width: features of a token.
        count: number of vectors.
    """

    def __init__(self, features: int, width: int, count: int) -> None:
        super().__init__()
        self.count = count
        self.project = linear(features, count * width, zero=True)

    def forward(self, embedding: Tensor) -> tuple[Tensor, ...]:
        """Return ``count`` vectors, each with shape (B, 1, width), of an embedding (B, features) after SiLU."""
        vectors: tuple[Tensor, ...] = self.project(embedding).unsqueeze(1).chunk(self.count, dim=2)
        return vectors


def norm(width: int, eps: float = EPS) -> nn.LayerNorm:
    """Layer normalization without learned parameters: shift and scale come from the embedding."""
    return nn.LayerNorm(width, eps=eps, elementwise_affine=False)


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Scale and shift normalized tokens."""
    return x * (1 + scale) + shift


class DiTBlock(nn.Module):
    """Self-attention and two dense layers, whose inputs are scaled and shifted and whose outputs are gated.

    Source: Peebles and Xie, 2022, arXiv:2212.09748, section 3.2 and figure 3.

    Arguments:
        width: features of a token, and of the embedding.
        heads: number of heads, which divides the features.
        hidden: units of the dense layers.
        qk_norm: normalize queries and keys.
        activation: function of the dense layers; None for the tanh approximation of GELU.
        eps: epsilon of the normalization before the dense layers.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        *,
        qk_norm: bool,
        activation: Activation | None = None,
        eps: float = EPS,
    ) -> None:
        super().__init__()
        self.modulation = Modulation(width, width, 6)
        self.norm_attention = norm(width)
        self.attention = Attention(width, heads, qk_norm=qk_norm)
        self.norm_mlp = norm(width, eps)
        self.mlp = TransformerMLP(width, hidden, activation=activation)

    def forward(self, x: Tensor, embedding: Tensor, mask: Tensor | None) -> Tensor:
        """Apply the block to x (B, N, width), of which only those in the mask (B, N) are attended to."""
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = self.modulation(embedding)
        h = modulated(self.norm_attention(x), shift, scale)
        x = x + gate * self.attention(h, mask=mask)
        out: Tensor = x + gate_mlp * self.mlp(modulated(self.norm_mlp(x), shift_mlp, scale_mlp))
        return out


class JointStream(nn.Module):
    """The weights of one of the two streams of a joint block.

    Arguments:
        width: features of a token, and of the embedding.
        heads: number of heads, which divides the features.
        hidden: units of the dense layers.
        qk_norm: normalize queries and keys.
        second: whether the tokens also attend to each other alone.
    """

    def __init__(self, width: int, heads: int, hidden: int, *, qk_norm: bool, second: bool = False) -> None:
        super().__init__()
        self.modulation = Modulation(width, width, 9 if second else 6)
        self.norm_attention = norm(width)
        self.attention = Attention(width, heads, qk_norm=qk_norm)
        self.second = Attention(width, heads, qk_norm=qk_norm) if second else None
        self.norm_mlp = norm(width)
        self.mlp = TransformerMLP(width, hidden)

    def heads_of(self, x: Tensor, vectors: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, each with shape (B, heads, N, head)."""
        h = modulated(self.norm_attention(x), vectors[0], vectors[1])
        return self.attention.heads_of(h, h)

    def finish(self, x: Tensor, attended: Tensor, vectors: tuple[Tensor, ...]) -> Tensor:
        """Add the gated outputs of attention (B, N, width) and of the dense layers."""
        _, _, gate, shift_mlp, scale_mlp, gate_mlp, *more = vectors
        change = gate * self.attention.out(attended)
        if self.second is not None:
            shift, scale, gate = more
            change = change + gate * self.second(modulated(self.norm_attention(x), shift, scale))
        x = x + change
        out: Tensor = x + gate_mlp * self.mlp(modulated(self.norm_mlp(x), shift_mlp, scale_mlp))
        return out


class ContextKeys(nn.Module):
    """Keys and values of a stream that ends here: its tokens are attended to, and are not changed any more.

    Arguments:
        width: features of a token, and of the embedding.
        heads: number of heads, which divides the features.
        qk_norm: normalize keys.
    """

    def __init__(self, width: int, heads: int, *, qk_norm: bool) -> None:
        super().__init__()
        self.heads = heads
        self.modulation = Modulation(width, width, 2)
        self.norm = norm(width)
        self.key, self.value = nn.Linear(width, width), nn.Linear(width, width)
        self.norm_key = RMSNorm(width // heads) if qk_norm else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values, each with shape (B, heads, N, head)."""
        h = modulated(self.norm(x), *self.modulation(embedding))
        key, value = (
            part(h).unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (self.key, self.value)
        )
        return self.norm_key(key), value


class JointBlock(nn.Module):
    """Attention over the tokens of sample and text together, with separate weights for each.

    Source: Esser et al., 2024, arXiv:2403.03206, section 4 and figure 2b (MM-DiT).

    Arguments:
        width: features of a token, and of the embedding.
        heads: number of heads, which divides the features.
        hidden: units of the dense layers.
        qk_norm: normalize queries and keys.
        last: whether the tokens of the text end here.
        second: whether the tokens of the sample also attend to each other alone (Stable Diffusion 3.5).
    """

    def __init__(
        self, width: int, heads: int, hidden: int, *, qk_norm: bool, last: bool, second: bool = False
    ) -> None:
        super().__init__()
        self.sample = JointStream(width, heads, hidden, qk_norm=qk_norm, second=second)
        self.text = None if last else JointStream(width, heads, hidden, qk_norm=qk_norm)
        self.context = ContextKeys(width, heads, qk_norm=qk_norm) if last else None

    def forward(self, x: Tensor, text: Tensor, embedding: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the block.

        Arguments:
            x: tokens of the sample with shape (B, N, width).
            text: tokens of the text with shape (B, M, width).
            embedding: embedding with shape (B, width), after SiLU.
            mask: which of all tokens are attended to, with shape (B, N + M).

        Returns:
            Both, changed; the text as it is where it ends.
        """
        vectors = self.sample.modulation(embedding)
        query, key, value = self.sample.heads_of(x, vectors)
        if self.text is None:
            assert self.context is not None
            more_keys, more_values = self.context(text, embedding)
            attended = attend(query, torch.cat([key, more_keys], 2), torch.cat([value, more_values], 2), mask)
            return self.sample.finish(x, attended, vectors), text
        vectors_text = self.text.modulation(embedding)
        parts = zip((query, key, value), self.text.heads_of(text, vectors_text), strict=True)
        query, key, value = (torch.cat(pair, 2) for pair in parts)
        attended, count = attend(query, key, value, mask), x.shape[1]
        return (
            self.sample.finish(x, attended[:, :count], vectors),
            self.text.finish(text, attended[:, count:], vectors_text),
        )
