"""Times spread evenly over the batch."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from sde_gen.objective.time_sampler.base import TimeSampler
from sde_gen.objective.time_sampler.uniform import UniformTime
from sde_gen.sde.base import SDE


@dataclass(frozen=True, kw_only=True)
class Stratified(TimeSampler):
    """Another distribution, evaluated at the low-discrepancy numbers ``u_i = (u_0 + i / B) mod 1``.

    Each time has the given distribution; together they cover it evenly, which reduces the variance of the loss.

    Source: Kingma et al., 2021, arXiv:2107.00630, appendix I.1.

    Arguments:
        distribution: distribution of each time.
    """

    distribution: TimeSampler = field(default_factory=UniformTime)

    def times(self, sde: SDE, u: Tensor) -> Tensor:
        """Transform stratified numbers, ``(u_0 + i / B) mod 1``, to times."""
        offsets = torch.arange(len(u), dtype=u.dtype, device=u.device) / len(u)
        return self.distribution.times(sde, torch.remainder(u[0] + offsets, 1.0))

    def density(self, sde: SDE, t: Tensor) -> Tensor:
        """Return the marginal density of each time."""
        return self.distribution.density(sde, t)
