"""Respacing of the steps of a discrete chain."""

import abc
from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.grid.base import Grid
from sde_gen.sde.base import SDE


@dataclass(frozen=True, kw_only=True)
class Chain(Grid):
    """Some of the times t = n / N, n = 1, ..., N, at which a network was trained on a chain of N steps.

    n counts from 1 as in papers; code often counts from 0. The final step to clean data is the sampler's last
    evaluation, so S steps of other libraries are S - 1 here.

    Arguments:
        chain: steps N of the chain.
        last: a further number below all others, such as 1 where a sampler ends with the noise of the chain's first
            step (``set_alpha_to_one=false`` of other libraries, with ``denoise_final=false`` here); null for none.

    Raises:
        ValueError: fewer than 2 steps; or later more steps than times, or a time below the process' t_min.
    """

    chain: int = 1000
    last: int | None = None

    def __post_init__(self) -> None:
        if self.chain < 2:
            raise ValueError(f"chain={self.chain}: expected at least 2 steps")
        if self.last is not None and self.last < 1:
            raise ValueError(f"last={self.last}: the chain's first step is 1")

    def make(self, sde: SDE, steps: int) -> Tensor:
        """Return the times of the chosen numbers."""
        if steps >= self.chain:
            raise ValueError(
                f"steps={steps}: a chain of {self.chain} steps has {self.chain} times; take at most {self.chain - 1}"
            )
        times = self._numbers(steps + 1).double() / self.chain
        if float(times[-1]) < sde.t_min or float(times[0]) > 1:
            raise ValueError(
                f"{type(self).__name__} has times from {float(times[0]):g} to {float(times[-1]):g}, which leave the "
                f"process' [t_min={sde.t_min:g}, 1]; take a shorter chain or another offset"
            )
        return times

    def _numbers(self, count: int) -> Tensor:
        if self.last is None:
            return self.numbers(count)
        return torch.cat([self.numbers(count - 1), torch.tensor([self.last])])

    @abc.abstractmethod
    def numbers(self, count: int) -> Tensor:
        """Return ``count`` of the chain's numbers n, descending, int64."""


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

    Arguments:
        from_zero: whether n - 1 is rounded in place of n, as code does that counts from 0: halves then go to another
            step, as halves are rounded to even numbers.
    """

    from_zero: bool = False

    def numbers(self, count: int) -> Tensor:
        """Return the steps ``round(linspace(N, 1, S))``."""
        if self.from_zero:
            stride = (self.chain - 1) / max(1, count - 1)
            return 1 + (stride * torch.arange(count, dtype=torch.float64)).round().long().flip(0)
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


@dataclass(frozen=True, kw_only=True)
class DDPMInner(Chain):
    """Steps of a chain as evenly as rounding lets, n = N among them and the last, n = 1, left out.

    Numbers are rounded from 0, as in the code of DPM-Solver: S of S + 1.

    Source: Lu et al., 2022, arXiv:2211.01095, in their code (``time_uniform``).
    """

    def numbers(self, count: int) -> Tensor:
        """Return ``1 + round(linspace(N - 1, 0, S + 1))`` without the last."""
        return 1 + torch.linspace(self.chain - 1, 0, count + 1, dtype=torch.float64).round().long()[:-1]
