"""Tree of a Brownian path: the draws of which its value at a time is a sum."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sde_gen.noise import counter_based

Cell = tuple[int, int]
"""Level and number of a cell, ``[number, number + 1] 2^-level``."""

PATH_END = 2**32, 0
"""Draw of the end of the path. No cell has this level, and no independent draw this number."""


def weights(u: float, depth: int) -> dict[Cell, float]:
    """Return the weights of the draws of all cells around a time in the path there."""
    result: dict[Cell, float] = {PATH_END: u}
    halvings = levels(u, depth)
    for level in range(halvings + 1):
        number = math.floor(math.ldexp(u, level))
        v = math.ldexp(u, level) - number
        if v == 0:
            break  # the end of a cell, where smaller ones do not count
        shape = 0.5 - abs(v - 0.5) if level < halvings else math.sqrt(v * (1 - v))
        result[level, number] = math.sqrt(math.ldexp(1, -level)) * shape
    return result


def levels(u: float, depth: int) -> int:
    """Return the number of bisections around a time: once more for every octave below 1/8."""
    return depth + min(max(0, -2 - math.frexp(u)[1]), 64)


def in_one_cell(u: float, v: float, depth: int) -> bool:
    """Return True if two times lie inside the same smallest cell."""
    halvings = levels(max(u, v), depth)
    a, b = math.ldexp(u, halvings), math.ldexp(v, halvings)
    return math.floor(a) == math.floor(b) and not a.is_integer() and not b.is_integer()


class BrownianPath:
    """Draws of the cells of Brownian paths, cached between calls; buffers are reused.

    Arguments:
        roots: a key per path with shape (B,).
        dim: numbers D of a sample.
    """

    def __init__(self, roots: counter_based.Keys, dim: int) -> None:
        self.dim = dim
        self._roots = roots
        self._kept: dict[Cell, NDArray[np.float32]] = {}

    def __call__(self, cells: list[Cell]) -> Iterator[Tensor]:
        """Return the draws of cells, float32, and drop all others from the cache."""
        count = len(self._roots)
        buffers = [self._kept.pop(cell) for cell in set(self._kept) - set(cells)]
        new = [cell for cell in cells if cell not in self._kept]
        level, number = np.array(new, dtype=np.uint64).reshape(-1, 2).T[:, :, None]
        keys = counter_based.derive_keys(self._roots, level, number)  # (cells, B)
        together = max(1, counter_based.CHUNK // max(1, count * self.dim))
        for start in range(0, len(new), together):
            some = new[start : start + together]
            out = (
                buffers.pop()
                if buffers and together == 1
                else np.empty((len(some) * count, self.dim), np.float32)
            )
            counter_based.normals(keys[start : start + together].ravel(), out)
            self._kept.update(zip(some, out.reshape(len(some), count, self.dim), strict=True))
        return (torch.from_numpy(self._kept[cell]) for cell in cells)


def clamp_time(u: float) -> float:
    """Clamp a time to [0, 1], beyond which rounding may put it."""
    if not -1e-9 <= u <= 1 + 1e-9:
        raise ValueError(f"the Brownian path is defined on [0, 1], got time {u}")
    return min(max(u, 0.0), 1.0)
