"""Attention patterns: global, neighborhood and shifted windows."""

import abc
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sde_gen.model.transformer.rotary import TokenGrid


@dataclass(frozen=True, kw_only=True)
class AttentionPattern(abc.ABC):
    """Pattern of the tokens that a token attends to.

    Arguments:
        head: features of a head.

    Raises:
        ValueError: a number is impossible.
    """

    head: int = 64

    def __post_init__(self) -> None:
        if self.head < 1:
            raise ValueError(f"head={self.head} must be positive")

    @abc.abstractmethod
    def mixer(self, grid: TokenGrid, index: int) -> nn.Module:
        """Build the map from queries, keys and values (B, heads, H, W, head) to mixtures of values of the same shape.

        Arguments:
            grid: the tokens.
            index: number of the layer within its level.

        Raises:
            ValueError: the grid does not suit.
        """


@dataclass(frozen=True, kw_only=True)
class GlobalAttention(AttentionPattern):
    """Attention of every token to all tokens."""

    def mixer(self, grid: TokenGrid, index: int) -> nn.Module:
        """Build the attention module of a block on the given grid of tokens."""
        del grid, index
        return _Whole()


@dataclass(frozen=True, kw_only=True)
class NeighborhoodAttention(AttentionPattern):
    """The size x size tokens around a token; near the border the square moves inside, so that there are always as many.

    Source: Hassani et al., 2023, arXiv:2204.07143 (neighborhood attention). Here in tiles of
    (size + 1) x (size + 1) queries, whose keys are the 2 size x 2 size tokens that any of them attends to: three copies
    of the keys are made where one for every query would be size^2 of them.

    Arguments:
        size: side of the square, odd.
    """

    size: int = 7

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size < 1 or self.size % 2 == 0:
            raise ValueError(f"size={self.size}: a neighborhood has an odd number of tokens a side")

    def mixer(self, grid: TokenGrid, index: int) -> nn.Module:
        """Build the attention module of a block on the given grid of tokens."""
        del index
        if min(grid.height, grid.width) < self.size:
            raise ValueError(
                f"{grid.height}x{grid.width} tokens have no neighborhoods of {self.size}x{self.size}; "
                "give a smaller size, or larger images"
            )
        return _Tiled(*(_around(side, self.size) for side in (grid.height, grid.width)))


@dataclass(frozen=True, kw_only=True)
class ShiftedWindowAttention(AttentionPattern):
    """The tokens of a size x size window; every second layer has other windows, moved by half their size.

    Source: Liu et al., 2021, arXiv:2103.14030, section 3.2 (shifted window attention).

    Arguments:
        size: side of the window.
    """

    size: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size < 1:
            raise ValueError(f"size={self.size}: a window has at least one token a side")

    def mixer(self, grid: TokenGrid, index: int) -> nn.Module:
        """Build the attention module of a block on the given grid of tokens."""
        if grid.height % self.size or grid.width % self.size:
            raise ValueError(
                f"{grid.height}x{grid.width} tokens do not fall into windows of {self.size}x{self.size}; "
                "give a size that divides both sides"
            )
        shift = self.size // 2 if index % 2 else 0
        return _Tiled(*(_windows(side, self.size, shift) for side in (grid.height, grid.width)))


class Tiling(NamedTuple):
    """Tokens of one axis in tiles.

    Attributes:
        queries: which tokens attend in which tile, with shape (tiles, m).
        keys: which tokens are attended to there, with shape (tiles, n).
        visible: by which of them, with shape (tiles, m, n).
        back: where every token is among the queries, with shape (side,).
    """

    queries: Tensor
    keys: Tensor
    visible: Tensor
    back: Tensor


def _around(side: int, size: int) -> Tiling:
    """Neighborhoods of a line."""
    tile = min(size + 1, side)
    reached = min(tile + size - 1, side)
    begin = torch.arange(0, side, tile)
    queries = (begin[:, None] + torch.arange(tile)).clamp(max=side - 1)  # beyond the end the last one again
    keys = (begin - size // 2).clamp(0, side - reached)[:, None] + torch.arange(reached)
    first = (queries - size // 2).clamp(0, side - size)[:, :, None]
    visible = (keys[:, None] >= first) & (keys[:, None] < first + size)
    return Tiling(queries, keys, visible, torch.arange(side))


def _windows(side: int, size: int, shift: int) -> Tiling:
    """Windows of a line rolled by ``shift``; its end and its beginning, which then meet, do not see each other."""
    tokens = torch.arange(side).roll(shift).view(-1, size)
    wrapped = (torch.arange(side) < shift).view(-1, size)
    visible = wrapped[:, :, None] == wrapped[:, None, :]
    return Tiling(tokens, tokens, visible, torch.arange(side).roll(-shift))


def mixed(query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None = None) -> Tensor:
    """Attend: softmax(query key^T) value over the last but one axis, without what is not ``visible``."""
    weight = query @ key.mT
    if visible is not None:
        weight = weight.masked_fill(~visible, -torch.inf)
    return torch.softmax(weight, dim=-1) @ value


class _Whole(nn.Module):
    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        parts = (part.flatten(2, 3) for part in (query, key, value))
        return mixed(*parts).view(value.shape)


class _Tiled(nn.Module):
    queries_h: Tensor
    queries_w: Tensor
    keys_h: Tensor
    keys_w: Tensor
    back_h: Tensor
    back_w: Tensor
    visible: Tensor

    def __init__(self, height: Tiling, width: Tiling) -> None:
        super().__init__()
        for axis, tiling in (("h", height), ("w", width)):
            for name in ("queries", "keys", "back"):
                self.register_buffer(f"{name}_{axis}", getattr(tiling, name), persistent=False)
        visible = height.visible[:, None, :, None, :, None] & width.visible[None, :, None, :, None, :]
        self.register_buffer("visible", visible.flatten(4, 5).flatten(2, 3), persistent=False)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query = _tiles(query, self.queries_h, self.queries_w)
        key, value = (_tiles(part, self.keys_h, self.keys_w) for part in (key, value))
        out = mixed(query, key, value, self.visible)
        sides = self.queries_h.shape[1], self.queries_w.shape[1]
        out = torch.unflatten(out, 4, sides).transpose(3, 4).flatten(4, 5).flatten(2, 3)
        return out.index_select(2, self.back_h).index_select(3, self.back_w)


def _tiles(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Tokens (B, heads, H, W, head) in tiles (B, heads, tiles, tiles, tokens, head)."""
    x = x.index_select(2, rows.flatten()).index_select(3, columns.flatten())
    x = torch.unflatten(torch.unflatten(x, 3, columns.shape), 2, rows.shape)
    return x.transpose(3, 4).flatten(4, 5)
