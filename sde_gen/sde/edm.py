"""The process of EDM."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sde_gen.sde.base import SDE


@dataclass(frozen=True, kw_only=True)
class EDMProcess(SDE):
    r"""Process of EDM, dx = sigma_max sqrt(2 t) dw, with sigma linear in t and alpha = 1.

    .. math::
        \alpha = 1, \qquad \sigma = \sigma_{max} t, \qquad t_{min} = \sigma_{min} / \sigma_{max} .

    Source: Karras et al., 2022, arXiv:2206.00364, table 1 (sigma 0.002 to 80); their time is sigma, here it is
    sigma / sigma_max.

    Arguments:
        sigma_min: noise standard deviation at t_min.
        sigma_max: noise standard deviation at t = 1.

    Raises:
        ValueError: not 0 < sigma_min < sigma_max < inf.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    t_min: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max < math.inf:
            raise ValueError(
                f"sigma_min={self.sigma_min}, sigma_max={self.sigma_max}: "
                "expected 0 < sigma_min < sigma_max, both finite"
            )
        object.__setattr__(self, "t_min", self.sigma_min / self.sigma_max)

    def alpha(self, t: Tensor) -> Tensor:
        """Return ``alpha(t) = 1``."""
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        """Return ``sigma(t) = sigma_max t``."""
        return self.sigma_max * t

    def alpha_dot(self, t: Tensor) -> Tensor:
        """Return ``alpha'(t) = 0``."""
        return torch.zeros_like(t)

    def sigma_dot(self, t: Tensor) -> Tensor:
        """Return ``sigma'(t) = sigma_max``."""
        return torch.full_like(t, self.sigma_max)

    def log_snr(self, t: Tensor) -> Tensor:
        """Return ``-2 log(sigma_max t)``."""
        return -2 * torch.log(self.sigma_max * t)

    def t_from_log_snr(self, log_snr: Tensor) -> Tensor:
        """Return ``t = exp(-log_snr / 2) / sigma_max``."""
        return torch.exp(-0.5 * log_snr) / self.sigma_max

    def drift_rate(self, t: Tensor) -> Tensor:
        """Return ``f(t) = 0``."""
        return torch.zeros_like(t)

    def diffusion(self, t: Tensor) -> Tensor:
        """Return ``g(t) = sigma_max sqrt(2 t)``."""
        return self.sigma_max * torch.sqrt(2 * t)
