"""Patches of an event of any rank as tokens, and fixed embeddings of their places."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


class Patches:
    """Rectangles of an event (C, *sides) as tokens, in rows of the last axis first.

    Arguments:
        shape: event shape (C, *sides) of one axis or more.
        patch: sides of a patch, one number for all axes or one for each.

    Raises:
        ValueError: the event has no axis, or patches do not fill it evenly; the message gives both.
    """

    def __init__(self, shape: Sequence[int], patch: Sequence[int]) -> None:
        self.sides = tuple(shape[1:])
        if not self.sides:
            raise ValueError(f"shape={tuple(shape)}: patches need (C, *sides); for vectors use model=mlp")
        self.patch = tuple(patch) * len(self.sides) if len(patch) == 1 else tuple(patch)
        if (
            len(self.patch) != len(self.sides)
            or min(self.patch) < 1
            or any(side % size for side, size in zip(self.sides, self.patch, strict=True))
        ):
            raise ValueError(
                f"patch={list(patch)} does not divide an event with sides {list(self.sides)}: give a divisor "
                "of every side"
            )
        self.grid = tuple(side // size for side, size in zip(self.sides, self.patch, strict=True))
        self.size = math.prod(self.patch)
        rank = len(self.sides)
        self._split = [number for pair in zip(self.grid, self.patch, strict=True) for number in pair]
        self._order = [0, *(2 + 2 * axis for axis in range(rank)), 1, *(3 + 2 * axis for axis in range(rank))]
        self._back = [self._order.index(dim) for dim in range(len(self._order))]

    def tokens(self, x: Tensor) -> Tensor:
        """Cut (B, C, *sides) into tokens (B, N, C * size)."""
        parts = x.reshape(*x.shape[:2], *self._split).permute(self._order)
        return parts.reshape(len(x), math.prod(self.grid), -1)

    def event(self, tokens: Tensor, channels: int) -> Tensor:
        """Put tokens (B, N, channels * size) together to (B, channels, *sides)."""
        parts = tokens.reshape(len(tokens), *self.grid, channels, *self.patch).permute(self._back)
        return parts.reshape(len(tokens), channels, *self.sides)


def sincos(grid: Sequence[int], width: int) -> Tensor:
    """Sines and cosines of the places of a grid, a share of the features for every axis.

    Source: Vaswani et al., 2017, arXiv:1706.03762; along two axes: He et al., 2021, arXiv:2111.06377 (in their code),
    whose order of sines, cosines and frequencies 10000^(-i / n) this is; the first axis comes first.

    Arguments:
        grid: number of places along every axis.
        width: number of features.

    Returns:
        (N, width).

    Raises:
        ValueError: width is no multiple of twice the number of axes.
    """
    if width % (2 * len(grid)):
        raise ValueError(
            f"width={width} features cannot embed places of {len(grid)} axes: expected a multiple of {2 * len(grid)}"
        )
    count = width // (2 * len(grid))
    omega = 10000.0 ** (-torch.arange(count, dtype=torch.float64) / count)
    axes = torch.meshgrid(*(torch.arange(side, dtype=torch.float64) for side in grid), indexing="ij")
    angles = [axis.reshape(-1, 1) * omega for axis in axes]
    return torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1).float()
