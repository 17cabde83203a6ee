"""Mixture of two distributions of times."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.objective.time_sampler.base import TimeSampler
from sde_gen.sde.base import SDE


@dataclass(frozen=True, kw_only=True)
class Mixture(TimeSampler):
    """Each time is drawn from ``first`` with probability ``share``, else from ``second``.

    Arguments:
        first: first distribution.
        second: second distribution.
        share: probability of the first.
    """

    first: TimeSampler
    second: TimeSampler
    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"share={self.share} must lie strictly between 0 and 1")

    def times(self, sde: SDE, u: Tensor) -> Tensor:
        """Select a component by u, and rescale u to the uniform number of that component."""
        first = self.first.times(sde, (u / self.share).clamp(max=1.0))
        second = self.second.times(sde, ((u - self.share) / (1 - self.share)).clamp(min=0.0))
        return torch.where(u < self.share, first, second)

    def density(self, sde: SDE, t: Tensor) -> Tensor:
        """Return the density of the mixture, ``share p_1(t) + (1 - share) p_2(t)``."""
        return self.share * self.first.density(sde, t) + (1 - self.share) * self.second.density(sde, t)
