"""Uniform distribution of times."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.objective.time_sampler.base import TimeSampler
from sde_gen.sde.base import SDE


@dataclass(frozen=True, kw_only=True)
class UniformTime(TimeSampler):
    """t ~ U[t_min, 1]."""

    def times(self, sde: SDE, u: Tensor) -> Tensor:
        """Return ``t_min + (1 - t_min) u``."""
        return sde.t_min + (1 - sde.t_min) * u

    def density(self, sde: SDE, t: Tensor) -> Tensor:
        """Return the constant density ``1 / (1 - t_min)``."""
        return torch.full_like(t, 1 / (1 - sde.t_min))
