"""Tokens of texts that an encoder outside the network has embedded."""

import torch
from torch import Tensor, nn

from sde_gen.model.text.encoder import TextFeatures
from sde_gen.model.unet.blocks import linear


class EmbeddedTokens(nn.Module):
    """Embedded tokens, projected to the features of the network.

    A learned mark of the beginning is set before every text. Where nothing else is attended to, as with a missing text,
    it stands for the null. The mean of all stands for the text.

    Arguments:
        features: features W of an embedded token.
        length: most tokens of a text.
        width: features of the projected ones.

    Raises:
        ValueError: a size is not positive.
    """

    def __init__(self, *, features: int, length: int, width: int) -> None:
        super().__init__()
        if min(features, length, width) < 1:
            raise ValueError(
                f"features={features}, length={length}, width={width}: expected positive numbers"
            )
        self.features, self.length = features, length
        self.project = linear(features, width)
        self.begin = nn.Parameter(torch.randn(width))

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> TextFeatures:
        """Project tokens.

        Arguments:
            tokens: embedded tokens with shape (B, L, W), L at most ``length``.
            mask: which of them are no padding, with shape (B, L); None: all.

        Raises:
            ValueError: the shape is another one.
        """
        if tokens.ndim != 3 or tokens.shape[1] > self.length or tokens.shape[2] != self.features:
            raise ValueError(
                f"embedded tokens have shape {tuple(tokens.shape)}; expected (B, at most {self.length}, "
                f"{self.features})"
            )
        if mask is not None and mask.shape != tokens.shape[:2]:
            raise ValueError(f"the mask has shape {tuple(mask.shape)}; expected {tuple(tokens.shape[:2])}")
        some = tokens.new_ones(tokens.shape[:2], dtype=torch.bool) if mask is None else mask.bool()
        visible = torch.cat([torch.ones_like(some[:, :1]), some], 1)
        features = torch.cat([self.begin.expand(len(tokens), 1, -1), self.project(tokens)], 1)
        weight = visible.to(features.dtype).unsqueeze(2)
        return TextFeatures(features, visible, (features * weight).sum(1) / weight.sum(1))

    def empty(self, count: int, device: torch.device) -> TextFeatures:
        """Return the features of missing texts, all padding."""
        tokens = torch.zeros(count, self.length, self.features, device=device, dtype=self.begin.dtype)
        features: TextFeatures = self(
            tokens, torch.zeros(count, self.length, device=device, dtype=torch.bool)
        )
        return features
