"""Base of the spacings of a discrete chain."""

import abc
from dataclasses import dataclass

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

    Raises:
        ValueError: fewer than 2 steps; or later more steps than times, or a time below the process' t_min.
    """

    chain: int = 1000

    def __post_init__(self) -> None:
        if self.chain < 2:
            raise ValueError(f"chain={self.chain}: expected at least 2 steps")

    def make(self, sde: SDE, steps: int) -> Tensor:
        """Return the times of the chosen numbers."""
        if steps >= self.chain:
            raise ValueError(
                f"steps={steps}: a chain of {self.chain} steps has {self.chain} times; take at most {self.chain - 1}"
            )
        times = self.numbers(steps + 1).double() / self.chain
        if float(times[-1]) < sde.t_min or float(times[0]) > 1:
            raise ValueError(
                f"{type(self).__name__} has times from {float(times[0]):g} to {float(times[-1]):g}, which leave the "
                f"process' [t_min={sde.t_min:g}, 1]; take a shorter chain or another offset"
            )
        return times

    @abc.abstractmethod
    def numbers(self, count: int) -> Tensor:
        """Return ``count`` of the chain's numbers n, descending, int64."""
