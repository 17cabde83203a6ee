"""Encoders of texts: from tokens to features, of every token and of the whole text."""

import abc
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sde_gen.model.transformer.blocks import TransformerBlock
from sde_gen.model.unet.blocks import linear


class TextFeatures(NamedTuple):
    """Features of texts.

    Attributes:
        tokens: features of the mark of the beginning and of every token with shape (B, 1 + L, W).
        mask: which of them are no padding, with shape (B, 1 + L); the first always is none.
        pooled: features of the whole text with shape (B, W).
    """

    tokens: Tensor
    mask: Tensor
    pooled: Tensor


class TextEncoder(nn.Module, abc.ABC):
    """Abstract encoder of texts.

    A mark of the beginning is set before every text, so that attention has something to attend to in the empty text.

    Arguments:
        vocabulary: number of tokens; 0 is padding.
        length: most tokens of a text.
        width: features W.

    Raises:
        ValueError: a size is not positive.
    """

    def __init__(self, *, vocabulary: int, length: int, width: int) -> None:
        super().__init__()
        if vocabulary < 2 or min(length, width) < 1:
            raise ValueError(
                f"vocabulary={vocabulary}, length={length}, width={width}: expected at least two tokens, one position "
                "and one feature"
            )
        self.length = length
        self.table = nn.Embedding(vocabulary, width)
        self.begin = nn.Parameter(torch.randn(width))

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> TextFeatures:
        """Encode texts.

        Arguments:
            tokens: int64 with shape (B, L), L at most ``length``, padded with zeros.
            mask: None, as zeros mark the padding.

        Raises:
            ValueError: a text is longer, a token is unknown, or a mask is given.
        """
        if mask is not None:
            raise ValueError("a mask goes with embedded tokens; of these, zeros are the padding")
        if tokens.ndim != 2 or tokens.shape[1] > self.length:
            raise ValueError(f"tokens have shape {tuple(tokens.shape)}; expected (B, at most {self.length})")
        begin = self.begin.expand(len(tokens), 1, -1)
        visible = torch.cat([torch.ones_like(tokens[:, :1]), tokens], 1) > 0
        features = torch.cat([begin, self.table(tokens)], 1)
        return self.encode(features, visible)

    def empty(self, count: int, device: torch.device) -> TextFeatures:
        """Return the features of missing texts, all padding."""
        features: TextFeatures = self(torch.zeros(count, self.length, dtype=torch.int64, device=device))
        return features

    @abc.abstractmethod
    def encode(self, features: Tensor, mask: Tensor) -> TextFeatures:
        """Encode the mark of the beginning and the embedded tokens (B, 1 + L, W), of which some are padding."""


class BagOfWords(TextEncoder):
    """Embedded tokens without their order; their mean stands for the text."""

    def encode(self, features: Tensor, mask: Tensor) -> TextFeatures:
        """Leave the tokens as they are, and average."""
        weight = mask.to(features.dtype).unsqueeze(2)
        return TextFeatures(features, mask, (features * weight).sum(1) / weight.sum(1))


class TextTransformer(TextEncoder):
    """A transformer with learned positions; the features at the beginning stand for the text.

    Source: Vaswani et al., 2017, arXiv:1706.03762; with the normalizations first: Radford et al., 2021,
    arXiv:2103.00020, section 2.4.

    Arguments:
        vocabulary: number of tokens; 0 is padding.
        length: most tokens of a text.
        width: features W.
        depth: number of layers.
        heads: number of heads, which divides the features.

    Raises:
        ValueError: a size is not positive, or heads do not divide the features.
    """

    def __init__(self, *, vocabulary: int, length: int, width: int, depth: int = 2, heads: int = 4) -> None:
        super().__init__(vocabulary=vocabulary, length=length, width=width)
        if depth < 1:
            raise ValueError(f"depth={depth}: expected at least one layer")
        self.positions = nn.Parameter(0.1 * torch.randn(1 + length, width))
        self.blocks = nn.ModuleList(TransformerBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.pool = linear(width, width)

    def encode(self, features: Tensor, mask: Tensor) -> TextFeatures:
        """Add the positions, and apply the layers."""
        h = features + self.positions[: features.shape[1]]
        for block in self.blocks:
            h = block(h, mask)
        h = self.norm(h)
        return TextFeatures(h, mask, self.pool(h[:, 0]))


class PooledTransformer(TextTransformer):
    """A transformer of which the network sees the features of the whole text alone, and no token.

    The control of attention to tokens: the layers are those of :class:`TextTransformer`, and attention sees the mark of
    the beginning as it is before them, the same for every text.
    """

    def encode(self, features: Tensor, mask: Tensor) -> TextFeatures:
        """Apply the layers, and return no token but the mark of the beginning."""
        return TextFeatures(features[:, :1], mask[:, :1], super().encode(features, mask).pooled)
