"""Tokens of an image merged and split."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sde_gen.model.transformer.layers import dense


class TokenMerge(nn.Module):
    """A rectangle of tokens made one: (B, H, W, inputs) to (B, H / rows, W / columns, outputs)."""

    def __init__(self, inputs: int, outputs: int, sides: Sequence[int] = (2, 2)) -> None:
        super().__init__()
        self.rows, self.columns = sides
        self.project = dense(inputs * self.rows * self.columns, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Merge the tokens of each patch."""
        batch, height, width, _ = x.shape
        x = x.reshape(batch, height // self.rows, self.rows, width // self.columns, self.columns, -1)
        out: Tensor = self.project(x.transpose(2, 3).flatten(3))
        return out


class TokenSplitBase(nn.Module):
    """Projection of every token to a rectangle of tokens.

    Arguments:
        inputs: features of a token.
        outputs: those of a smaller one.
        sides: rows and columns of the rectangle.
        zero: whether the weights are zeros at first.
    """

    def __init__(
        self, inputs: int, outputs: int, sides: Sequence[int] = (2, 2), *, zero: bool = False
    ) -> None:
        super().__init__()
        self.rows, self.columns = sides
        self.project = dense(inputs, outputs * self.rows * self.columns, zero=zero)

    def grow(self, x: Tensor) -> Tensor:
        """Map (B, H, W, inputs) to (B, H rows, W columns, outputs)."""
        h: Tensor = self.project(x)
        h = h.view(*h.shape[:3], self.rows, self.columns, -1)
        return h.transpose(2, 3).flatten(3, 4).flatten(1, 2)


class TokenSplit(TokenSplitBase):
    """One token made a rectangle of them: (B, H, W, inputs) to (B, H rows, W columns, outputs)."""

    def forward(self, x: Tensor) -> Tensor:
        """Split each token into a patch."""
        return self.grow(x)


class TokenSplitWithSkip(TokenSplitBase):
    """A split into four, and its weighted mean with tokens of that size; the weight is learned."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.share = nn.Parameter(torch.full((1,), 0.5))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Split x (B, H, W, inputs), and join it with ``skip`` (B, 2 H, 2 W, outputs)."""
        return skip + self.share.to(x.dtype) * (self.grow(x) - skip)
