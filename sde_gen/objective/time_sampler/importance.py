"""Times by importance for the likelihood."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.objective.time_sampler.base import TimeSampler
from sde_gen.sde.base import SDE


@dataclass(frozen=True, kw_only=True)
class Importance(TimeSampler):
    r"""Density proportional to g^2 / sigma^2 on [t_min, t_max].

    As g^2 / sigma^2 = -d log_snr / dt, the times are those of uniform log-SNR, exactly and for every process.

    Source: Song et al., 2021, arXiv:2101.09258, section 4.3; Kingma et al., 2021, arXiv:2107.00630, section 5.1.

    Arguments:
        t_max: the largest time; below 1 for processes whose log-SNR at 1 is -infinity.
    """

    t_max: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.t_max <= 1:
            raise ValueError(f"t_max={self.t_max} must lie in (0, 1]")

    def times(self, sde: SDE, u: Tensor) -> Tensor:
        """Interpolate the log-SNR linearly between its values at t_min and 1."""
        first, last = self._ends(sde)
        return sde.t_from_log_snr(first + (last - first) * u).clamp(sde.t_min, self.t_max)  # rounding

    def density(self, sde: SDE, t: Tensor) -> Tensor:
        """g^2 / sigma^2 over its integral, zero beyond t_max."""
        first, last = self._ends(sde)
        inside = (t <= self.t_max).to(t.dtype)
        return inside * (sde.diffusion(t) / sde.sigma(t)) ** 2 / (first - last)

    def _ends(self, sde: SDE) -> tuple[Tensor, Tensor]:
        """The log-SNR at t_min and t_max, shape (), on the CPU: no wait for a GPU."""
        if not self.t_max > sde.t_min:
            raise ValueError(f"t_max={self.t_max} must lie above t_min={sde.t_min} of the process")
        ends = torch.tensor([sde.t_min, self.t_max], dtype=torch.float64)
        first, last = sde.log_snr(ends)
        if not bool(torch.isfinite(last)):
            raise ValueError(
                f"the log-SNR of {type(sde).__name__} at t_max={self.t_max} is {float(last)}: "
                "importance sampling needs a time_sampler.t_max below 1, such as 0.999"
            )
        return first, last
