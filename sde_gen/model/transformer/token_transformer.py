"""Autoregressive transformer of a text and of the codes of an image."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sde_gen.model.conditional import NO_CONDITIONS, Conditions, with_class
from sde_gen.model.transformer.layers import FeedForward, RMSNorm, dense
from sde_gen.model.unet.blocks import Dropout


@dataclass(kw_only=True)
class KeyValueCache:
    """Keys and values of the positions of a batch that a transformer has seen, by layer; empty at first.

    Arguments:
        layers: keys and values of every layer, each with shape (B, heads, positions, head).
    """

    layers: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Return the number of positions seen."""
        return self.layers[0][0].shape[2] if self.layers else 0


class TokenTransformer(nn.Module):
    r"""A causal transformer with the distribution of every code given the text and the codes before it.

    .. math:: p(k | \mathrm{text}) = \prod_{i=1}^{N} p(k_i | k_1, \dots, k_{i-1}, \mathrm{text})

    Codes are ordered row by row. Before them stand the tokens of the text, whose padding is not attended to, and a
    learned start token, to which the class is added. The position of a code is the sum of embeddings of row and column.
    At the start of a training all codes are equally probable.

    Source: Ramesh et al., 2021, arXiv:2102.12092, section 2.2 (there with attention to rows and columns alone in some
    layers, and a loss of the text, too).

    Arguments:
        shape: event shape (1, h, w) of the codes.
        codes: number of codes, K.
        width: features of a token.
        depth: number of layers.
        heads: number of heads, which divides the width.
        hidden: units of the dense layers; None for four times the width.
        dropout: dropout rate.
        num_classes: number of classes, 0 for none.
        inputs: sizes of the other conditions, of which there is the text as tokens.

    Raises:
        ValueError: an impossible shape or setting, or a condition that is no text.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        codes: int,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        hidden: int | None = None,
        dropout: float = 0.0,
        num_classes: int = 0,
        inputs: Conditions = NO_CONDITIONS,
    ) -> None:
        super().__init__()
        units = 4 * width if hidden is None else hidden
        if len(shape) != 3 or shape[0] != 1 or min(*shape, width, depth, heads, units) < 1 or width % heads:
            raise ValueError(
                f"shape={tuple(shape)}, width={width}, depth={depth}, heads={heads}, hidden={hidden}: expected the "
                "grid (1, h, w) of the codes of codec=codes, positive numbers, and heads that divide the width"
            )
        if codes < 2:
            raise ValueError(f"codes={codes}: expected at least two")
        if inputs.vector or inputs.image or inputs.features:
            raise ValueError(
                f"vector={inputs.vector}, image={inputs.image}, features={inputs.features}: a transformer of codes is "
                "given a class or a text as tokens; use conditioning=text, conditioning=label or conditioning=none"
            )
        self.grid, self.codes, self.length = (shape[1], shape[2]), codes, inputs.length
        self.text = nn.Embedding(inputs.vocabulary, width) if inputs.vocabulary else None
        self.text_places = nn.Parameter(0.02 * torch.randn(inputs.length, width)) if self.text else None
        self.classes = nn.Embedding(num_classes + 1, width) if num_classes else None
        self.start = nn.Parameter(0.02 * torch.randn(width))
        self.code = nn.Embedding(codes, width)
        self.rows = nn.Parameter(0.02 * torch.randn(shape[1], width))
        self.columns = nn.Parameter(0.02 * torch.randn(shape[2], width))
        for table in (self.text, self.classes, self.code):
            if table is not None:
                nn.init.normal_(table.weight, std=0.02)
        self.blocks = nn.ModuleList(_CausalBlock(width, heads, units, dropout) for _ in range(depth))
        self.norm = RMSNorm(width)
        self.out = dense(width, codes, zero=True)

    @property
    def count(self) -> int:
        """Return the number of codes of an image, N."""
        return self.grid[0] * self.grid[1]

    def forward(
        self,
        x: Tensor,
        *,
        tokens: Tensor | None = None,
        label: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """Return the logits of codes given those before them.

        Arguments:
            x: the first m codes of every image, int64 with shape (B, m), m from 0 to N.
            tokens: texts with shape (B, length), padded with zeros; None stands for the empty text.
            label: classes with shape (B,); None stands for the null class.
            cache: positions seen in earlier calls on the first of these codes with the same conditions, to which this
                call adds; None for a call on its own.

        Returns:
            Logits with shape (B, n, K), of code number m + 1 the last, or of code N if all are given. Without a cache
            n = min(m + 1, N), from the first code on; with one, the logits of earlier calls are left out.

        Raises:
            ValueError: a condition was given to a network without, or there are no new codes.
        """
        if tokens is not None and self.text is None:
            raise ValueError("a text was given to a network without; train one with conditioning=text")
        given = min(x.shape[1], self.count - 1)
        before = self.length if self.text is not None else 0
        seen = 0 if cache is None else cache.length
        if seen > before + given:
            raise ValueError(f"{x.shape[1]} codes are given, and the cache has seen them: give one more")
        h = (
            self._embed(x[:, :given], tokens, label)
            if seen == 0
            else self._codes(x, seen - before - 1, given)
        )
        visible = self._visible(tokens, len(x), seen, before + 1 + given, x.device)
        layers = cache.layers if cache is not None and cache.layers else [None] * len(self.blocks)
        stored = []
        for block, past in zip(self.blocks, layers, strict=True):
            h, pair = block(h, visible, past)
            stored.append(pair)
        if cache is not None:
            cache.layers = stored
        out: Tensor = self.out(self.norm(h[:, max(0, before - seen) :]))
        return out

    def _embed(self, codes: Tensor, tokens: Tensor | None, label: Tensor | None) -> Tensor:
        """Return text, start and codes embedded, with shape (B, length + 1 + m, width)."""
        parts = [with_class(self.start.expand(len(codes), -1), self.classes, label).unsqueeze(1)]
        if self.text is not None:
            places = self.text_places
            parts.insert(0, self.text(self._tokens(tokens, len(codes), codes.device)) + places)
        return torch.cat([*parts, self._codes(codes, 0, codes.shape[1])], dim=1)

    def _codes(self, codes: Tensor, first: int, last: int) -> Tensor:
        """Return the codes from one place on, embedded with their positions."""
        places = (self.rows[:, None] + self.columns[None]).flatten(0, 1)
        out: Tensor = self.code(codes[:, first:last]) + places[first:last]
        return out

    def _tokens(self, tokens: Tensor | None, count: int, device: torch.device) -> Tensor:
        return torch.zeros(count, self.length, dtype=torch.int64, device=device) if tokens is None else tokens

    def _visible(
        self, tokens: Tensor | None, count: int, first: int, last: int, device: torch.device
    ) -> Tensor:
        """Return which of the positions before ``last`` are attended to from ``first`` on, (B or 1, 1, S, T)."""
        earlier = torch.ones(last, last, dtype=torch.bool, device=device).tril()[first:]
        if self.text is None:
            return earlier[None, None]
        known = F.pad(self._tokens(tokens, count, device) != 0, (0, last - self.length), value=True)
        itself = torch.eye(last, dtype=torch.bool, device=device)[
            first:
        ]  # padding, too, attends to something
        return ((earlier & known[:, None]) | itself)[:, None]


class _CausalBlock(nn.Module):
    """Residual causal attention and a residual feed-forward layer."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = RMSNorm(width)
        self.qkv = dense(width, 3 * width)
        self.dropout = Dropout(dropout)
        self.project = dense(width, width, zero=True)
        self.feed_forward = FeedForward(RMSNorm(width), width, hidden, dropout)

    def forward(
        self, x: Tensor, visible: Tensor, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Apply the block to (B, S, width); return the result, and keys and values of all T positions."""
        parts = self.qkv(self.norm(x)).unflatten(2, (3, self.heads, -1))
        query, key, value = (part.transpose(1, 2) for part in parts.unbind(2))
        if past is not None:
            key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        x = x + self.project(self.dropout(mixed.transpose(1, 2).flatten(2)))
        out: Tensor = self.feed_forward(x)
        return out, (key, value)
