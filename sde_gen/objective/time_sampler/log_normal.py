"""Times of log-normal noise levels."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.objective.time_sampler.base import TimeSampler
from sde_gen.sde.base import SDE


@dataclass(frozen=True, kw_only=True)
class LogNormal(TimeSampler):
    r"""log(sigma / alpha) ~ N(mean, std^2), restricted to the levels of [t_min, 1].

    Source: Karras et al., 2022, arXiv:2206.00364, table 1 (mean -1.2, std 1.2).

    Arguments:
        mean: mean of log(sigma / alpha).
        std: its standard deviation.
    """

    mean: float = -1.2
    std: float = 1.2

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise ValueError(f"std={self.std} must be positive")

    def times(self, sde: SDE, u: Tensor) -> Tensor:
        """Invert the restricted distribution function."""
        low, high = self._ends(sde)
        z = torch.special.ndtri(low + (high - low) * u)
        return sde.t_from_log_snr(-2 * (self.mean + self.std * z)).clamp(sde.t_min, 1.0)  # rounding

    def density(self, sde: SDE, t: Tensor) -> Tensor:
        """The Gaussian density of log(sigma / alpha) times the derivative of that."""
        low, high = self._ends(sde)
        z = (-0.5 * sde.log_snr(t) - self.mean) / self.std
        dz_dt = 0.5 * (sde.diffusion(t) / sde.sigma(t)) ** 2 / self.std
        return torch.exp(-0.5 * z**2) / math.sqrt(2 * math.pi) / (high - low) * dz_dt

    def _ends(self, sde: SDE) -> tuple[Tensor, Tensor]:
        """The distribution function at t_min and 1, shape (), on the CPU: no wait for a GPU."""
        ends = torch.tensor([sde.t_min, 1.0], dtype=torch.float64)
        low, high = torch.special.ndtr((-0.5 * sde.log_snr(ends) - self.mean) / self.std)
        if not bool(high > low):
            raise ValueError(
                f"mean={self.mean}, std={self.std}: no noise level of {type(sde).__name__} lies there; its "
                f"log(sigma / alpha) ranges from {-0.5 * sde.log_snr(ends)[0]:.3g} to {-0.5 * sde.log_snr(ends)[1]:.3g}"
            )
        return low, high
