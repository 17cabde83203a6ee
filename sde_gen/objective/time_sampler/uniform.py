"""Uniform times."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.objective.time_sampler.base import TimeSampler
from sde_gen.sde.base import SDE


@dataclass(frozen=True, kw_only=True)
class UniformTime(TimeSampler):
    """t ~ U[t_min, 1]."""

    def times(self, sde: SDE, u: Tensor) -> Tensor:
        """Stretch."""
        return sde.t_min + (1 - sde.t_min) * u

    def density(self, sde: SDE, t: Tensor) -> Tensor:
        """One over the length of the interval."""
        return torch.full_like(t, 1 / (1 - sde.t_min))
