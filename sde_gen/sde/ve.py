"""Variance-exploding (VE) process."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.sde.base import SDE, check_t_min


@dataclass(frozen=True, kw_only=True)
class VE(SDE):
    r"""dx = sigma(t) sqrt(2 log(sigma_max / sigma_min)) dw with sigma geometric in t.

    .. math::
        \alpha = 1, \qquad \sigma = \sigma_{min} (\sigma_{max} / \sigma_{min})^t .

    At t = 0 the noise is sigma_min, not zero, so t_min may be zero; the default is the paper's.

    Source: Song et al., 2021, arXiv:2011.13456, eq. 9, appendix C (sigma 0.01 to 50, t_min 1e-5).

    Arguments:
        sigma_min: noise standard deviation at t = 0.
        sigma_max: noise standard deviation at t = 1.
        t_min: the smallest time.

    Raises:
        ValueError: not 0 < sigma_min < sigma_max < inf, or t_min outside [0, 1).
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0
    t_min: float = 1e-5

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max < math.inf:
            raise ValueError(
                f"sigma_min={self.sigma_min}, sigma_max={self.sigma_max}: "
                "expected 0 < sigma_min < sigma_max, both finite"
            )
        check_t_min(self.t_min)

    @property
    def rate(self) -> float:
        """log(sigma_max / sigma_min), the rate at which sigma grows."""
        return math.log(self.sigma_max / self.sigma_min)

    def alpha(self, t: Tensor) -> Tensor:
        """Return ``alpha(t) = 1``."""
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        """Return ``sigma(t) = sigma_min exp(rate t)``."""
        return self.sigma_min * torch.exp(self.rate * t)

    def alpha_dot(self, t: Tensor) -> Tensor:
        """Return ``alpha'(t) = 0``."""
        return torch.zeros_like(t)

    def sigma_dot(self, t: Tensor) -> Tensor:
        """Return ``sigma'(t) = rate sigma``."""
        return self.rate * self.sigma(t)

    def log_snr(self, t: Tensor) -> Tensor:
        """Return ``-2 (log sigma_min + rate t)``."""
        return -2 * (math.log(self.sigma_min) + self.rate * t)

    def t_from_log_snr(self, log_snr: Tensor) -> Tensor:
        """Return ``t = (-log_snr / 2 - log sigma_min) / rate``."""
        return (-0.5 * log_snr - math.log(self.sigma_min)) / self.rate

    def drift_rate(self, t: Tensor) -> Tensor:
        """Return ``f(t) = 0``."""
        return torch.zeros_like(t)

    def diffusion(self, t: Tensor) -> Tensor:
        """Return ``g(t) = sigma sqrt(2 rate)``."""
        return self.sigma(t) * math.sqrt(2 * self.rate)
