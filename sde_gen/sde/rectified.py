"""Rectified flow, the linear path of flow matching."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.sde.base import SDE, check_t_min


@dataclass(frozen=True, kw_only=True)
class Rectified(SDE):
    r"""The linear path from data to noise.

    .. math::
        \alpha = 1 - t, \qquad \sigma = t, \qquad
        f = -\frac{1}{1 - t}, \qquad g^2 = \frac{2 t}{1 - t} .

    At t = 1 the signal vanishes: the log-SNR, f and g are infinite there, the velocity
    alpha' x0 + sigma' eps is not.

    Sources: Lipman et al., 2023, arXiv:2210.02747, eq. 20 with sigma_min = 0 and time reversed; Liu et al.,
    2022, arXiv:2209.03003, eq. 1. The t_min is not in the paper: noise of 1e-3 is an eighth of a gray level of 256
    on [-1, 1].

    Arguments:
        t_min: the smallest time.

    Raises:
        ValueError: t_min lies outside (0, 1).
    """

    t_min: float = 1e-3

    def __post_init__(self) -> None:
        check_t_min(self.t_min, zero="sigma(0) is zero")

    def alpha(self, t: Tensor) -> Tensor:
        """Return ``alpha(t) = 1 - t``."""
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        """Return ``sigma(t) = t``."""
        return 1 * t

    def alpha_dot(self, t: Tensor) -> Tensor:
        """Return ``alpha'(t) = -1``."""
        return -torch.ones_like(t)

    def sigma_dot(self, t: Tensor) -> Tensor:
        """Return ``sigma'(t) = 1``."""
        return torch.ones_like(t)

    def log_snr(self, t: Tensor) -> Tensor:
        """Return ``2 log((1 - t) / t)``, by log1p."""
        return 2 * (torch.log1p(-t) - torch.log(t))

    def t_from_log_snr(self, log_snr: Tensor) -> Tensor:
        """Return ``t = sigmoid(-log_snr / 2)``."""
        return torch.sigmoid(-0.5 * log_snr)

    def drift_rate(self, t: Tensor) -> Tensor:
        """Return ``f(t) = -1 / (1 - t)``."""
        return -1 / (1 - t)

    def diffusion(self, t: Tensor) -> Tensor:
        """Return ``g(t) = sqrt(2 t / (1 - t))``."""
        return torch.sqrt(2 * t / (1 - t))
