"""Respacing of the steps of a discrete chain."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.grid._chain import Chain


@dataclass(frozen=True, kw_only=True)
class DDPMLeading(Chain):
    r"""Every k-th step of a chain from its beginning: n = offset + i k, k = floor(N / S) for S times.

    It does not reach n = N, where there is only noise: the flaw that Lin et al. describe.

    Sources: Song et al., 2020, arXiv:2010.02502, appendix D.2, linear; Lin et al., 2023, arXiv:2305.08891, table 2.

    Arguments:
        offset: the last number n; diffusers' ``steps_offset`` is one less.

    Raises:
        ValueError: offset is below 1.
    """

    offset: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.offset < 1:
            raise ValueError(f"offset={self.offset}: the chain's first step is 1")

    def numbers(self, count: int) -> Tensor:
        """Return every k-th step in descending order, from ``offset + (S - 1) k`` to ``offset``."""
        return self.offset + torch.arange(count).flip(0) * (self.chain // count)


@dataclass(frozen=True, kw_only=True)
class DDPMLinspace(Chain):
    """Steps of a chain as evenly as rounding lets, n = 1 and n = N among them.

    Sources: Nichol and Dhariwal, 2021, arXiv:2102.09672, section 4; Lin et al., 2023, arXiv:2305.08891, table 2.
    """

    def numbers(self, count: int) -> Tensor:
        """Return the steps ``round(linspace(N, 1, S))``."""
        return torch.linspace(self.chain, 1, count, dtype=torch.float64).round().long()


@dataclass(frozen=True, kw_only=True)
class DDPMTrailing(Chain):
    """Every k-th step of a chain from its end: n = round(N - i N / S), i = 0, ..., S - 1 for S times.

    Source: Lin et al., 2023, arXiv:2305.08891, section 3.3 and table 2.
    """

    def numbers(self, count: int) -> Tensor:
        """Return the steps ``round(N - i N / S)``, i = 0, ..., S - 1."""
        stride = self.chain / count
        return (self.chain - stride * torch.arange(count, dtype=torch.float64)).round().long()
