"""A Brownian path per sample that remembers what lies ahead: rejected steps are bisected, never drawn again."""

import torch
from torch import Tensor

from sde_gen.utils.broadcasting import broadcast, broadcast_like


class BrownianBisection:
    r"""The next increments of every sample's own Brownian motion, each sample at its own time.

    Whether a step is rejected depends on its noise. Noise drawn anew after a rejection would favor small noise,
    as the rejected one is forgotten. Here the increment stays and its first half is drawn given the whole,

    .. math::
        W_{h/2} \mid W_h \sim N(W_h / 2,\; h / 4),

    so the path is distributed as a Brownian motion, whatever the rejection rule. What is known of the future of a
    sample is a stack of increments, the nearest on top.

    Sources: Levy, 1948 (the midpoint given the ends); rejection with memory: Gaines and Lyons, 1997, SIAM J. Appl.
    Math. 57, section 3, and Rackauckas and Nie, 2017, arXiv:1804.04344.

    Arguments:
        x: samples with shape (B, *event), for shape, dtype and device.

    Attributes:
        length: length of every sample's next increment, float64 on the CPU with shape (B,); 0 where none is known.
        increment: the next increments with shape (B, *event).
    """

    def __init__(self, x: Tensor) -> None:
        self._x = x
        self._lengths: list[Tensor] = [torch.zeros(len(x), dtype=torch.float64)]
        self._increments: list[Tensor] = [torch.zeros_like(x)]

    @property
    def length(self) -> Tensor:
        """The top of the lengths."""
        return self._lengths[0]

    @property
    def increment(self) -> Tensor:
        """The top of the increments."""
        return self._increments[0]

    def bisect(self, rows: Tensor, z: Tensor) -> None:
        """Cut the next increment of some samples in two.

        Arguments:
            rows: which samples, booleans with shape (B,).
            z: noise of N(0, I) with shape (B, *event), of which the rows are used.
        """
        half, middle = (
            0.5 * self.length,
            0.5 * self.increment + broadcast_like(0.5 * torch.sqrt(self.length), z) * z,
        )
        rest = self.increment - middle
        self._replace(0, rows, half, rest)
        self._push(rows, half, middle)

    def extend(self, rows: Tensor, length: Tensor, z: Tensor) -> None:
        """Draw the next increment of samples of which none is known, of given lengths (B,)."""
        self._replace(0, rows, length, broadcast_like(torch.sqrt(length), z) * z)

    def advance(self, rows: Tensor) -> None:
        """Drop the next increment of samples that have gone through it."""
        empty = torch.zeros_like(self.length), torch.zeros_like(self._x)
        below = [*zip(self._lengths[1:], self._increments[1:], strict=True), empty]
        for level, (length, increment) in enumerate(below):
            self._replace(level, rows, length, increment)

    def _push(self, rows: Tensor, length: Tensor, increment: Tensor) -> None:
        if bool((rows & (self._lengths[-1] > 0)).any()):
            self._lengths.append(torch.zeros_like(length))
            self._increments.append(torch.zeros_like(increment))
        for level in reversed(range(1, len(self._lengths))):
            self._replace(level, rows, self._lengths[level - 1], self._increments[level - 1])
        self._replace(0, rows, length, increment)

    def _replace(self, level: int, rows: Tensor, length: Tensor, increment: Tensor) -> None:
        at = broadcast(rows, self._x).to(self._x.device)
        self._lengths[level] = torch.where(rows, length, self._lengths[level])
        self._increments[level] = torch.where(at, increment, self._increments[level])
