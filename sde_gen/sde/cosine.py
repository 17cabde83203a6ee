"""Cosine process with a bounded log-SNR."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.sde.base import SDE, check_t_min


@dataclass(frozen=True, kw_only=True)
class Cosine(SDE):
    r"""Rotation from data to noise, truncated where the log-SNR would become infinite.

    .. math::
        \alpha = \cos \phi, \quad \sigma = \sin \phi, \quad \lambda = -2 \log \tan \phi, \qquad
        \phi(t) = \phi_0 + t (\phi_1 - \phi_0), \quad
        \phi_0 = \arctan e^{-\lambda_{max} / 2}, \quad \phi_1 = \arctan e^{-\lambda_{min} / 2} .

    Every coefficient is finite on [0, 1], so t_min may be zero.

    Sources: Nichol and Dhariwal, 2021, arXiv:2102.09672, section 3.2 (the shape); Hoogeboom et al., 2023,
    arXiv:2301.11093, section 3.1, and Kingma and Gao, 2023, arXiv:2303.00848 (continuous time and the cut).

    Arguments:
        log_snr_max: log-SNR at t = 0.
        log_snr_min: log-SNR at t = 1.
        t_min: the smallest time.

    Raises:
        ValueError: not -inf < log_snr_min < log_snr_max < inf, or t_min outside [0, 1).
    """

    log_snr_max: float = 20.0
    log_snr_min: float = -20.0
    t_min: float = 0.0

    def __post_init__(self) -> None:
        if not -math.inf < self.log_snr_min < self.log_snr_max < math.inf:
            raise ValueError(
                f"log_snr_min={self.log_snr_min}, log_snr_max={self.log_snr_max}: "
                "expected log_snr_min < log_snr_max, both finite"
            )
        check_t_min(self.t_min)

    @property
    def speed(self) -> float:
        """Return d angle / dt, slightly less than pi / 2."""
        return _angle(-self.log_snr_max, -self.log_snr_min)

    def alpha(self, t: Tensor) -> Tensor:
        """Return ``alpha(t) = cos(angle)``, as the sine of the complement, which is accurate near t = 1."""
        return torch.sin(math.atan(math.exp(0.5 * self.log_snr_min)) + self.speed * (1 - t))

    def sigma(self, t: Tensor) -> Tensor:
        """Return ``sigma(t) = sin(angle)``."""
        return torch.sin(math.atan(math.exp(-0.5 * self.log_snr_max)) + self.speed * t)

    def alpha_dot(self, t: Tensor) -> Tensor:
        """Return ``alpha'(t) = -speed sigma``."""
        return -self.speed * self.sigma(t)

    def sigma_dot(self, t: Tensor) -> Tensor:
        """Return ``sigma'(t) = speed alpha``."""
        return self.speed * self.alpha(t)

    def t_from_log_snr(self, log_snr: Tensor) -> Tensor:
        """Return the time at which the angle is ``atan(exp(-log_snr / 2))``."""
        angle = torch.atan(torch.exp(-0.5 * log_snr))
        return (angle - math.atan(math.exp(-0.5 * self.log_snr_max))) / self.speed

    def drift_rate(self, t: Tensor) -> Tensor:
        """Return ``f(t) = -speed tan(angle)``."""
        return -self.speed * self.sigma(t) / self.alpha(t)

    def diffusion(self, t: Tensor) -> Tensor:
        """Return ``g(t) = sqrt(2 speed tan(angle))``."""
        return torch.sqrt(2 * self.speed * self.sigma(t) / self.alpha(t))


def _angle(start: float, end: float) -> float:
    """Angle between the directions whose log tan^2 is start and end, without cancellation."""
    low, high = math.exp(0.5 * start), math.exp(0.5 * end)
    return math.atan((high - low) / (1 + low * high))
