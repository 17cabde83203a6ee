"""Base class of VP and sub-VP: the rate beta, linear in time."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.sde.base import SDE, check_t_min


@dataclass(frozen=True, kw_only=True)
class LinearBeta(SDE):
    r"""Processes with the drift -beta(t) x / 2, beta linear in t, and so alpha = exp(-B / 2).

    .. math::
        \beta(t) = \beta_0 + t (\beta_1 - \beta_0), \qquad B(t) = \int_0^t \beta .

    Source: Song et al., 2021, arXiv:2011.13456, eq. 33, appendix C (beta 0.1 to 20, t_min 1e-5).

    Arguments:
        beta_min: beta at t = 0.
        beta_max: beta at t = 1.
        t_min: the smallest time.

    Raises:
        ValueError: not 0 <= beta_min <= beta_max < inf with beta_max > 0, or t_min outside (0, 1).
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    t_min: float = 1e-5

    def __post_init__(self) -> None:
        if not 0 <= self.beta_min <= self.beta_max < math.inf or self.beta_max == 0:
            raise ValueError(
                f"beta_min={self.beta_min}, beta_max={self.beta_max}: "
                "expected 0 <= beta_min <= beta_max, both finite, and beta_max > 0"
            )
        check_t_min(self.t_min, zero="sigma(0) is zero")

    def beta(self, t: Tensor) -> Tensor:
        """Return ``beta(t) = beta_min + (beta_max - beta_min) t``."""
        return self.beta_min + (self.beta_max - self.beta_min) * t

    def integral(self, t: Tensor) -> Tensor:
        """Return B(t), the integral of beta from 0 to t."""
        return self.beta_min * t + 0.5 * (self.beta_max - self.beta_min) * t**2

    def t_from_integral(self, integral: Tensor) -> Tensor:
        """Solve the quadratic B(t) = integral, in the form without cancellation."""
        slope = self.beta_max - self.beta_min
        root = torch.sqrt(self.beta_min**2 + 2 * slope * integral)
        return torch.where(integral > 0, 2 * integral / (self.beta_min + root), 0.0 * integral)

    def alpha(self, t: Tensor) -> Tensor:
        """Return ``alpha(t) = exp(-B / 2)``."""
        return torch.exp(-0.5 * self.integral(t))

    def alpha_dot(self, t: Tensor) -> Tensor:
        """Return ``alpha'(t) = -beta alpha / 2``."""
        return -0.5 * self.beta(t) * self.alpha(t)

    def drift_rate(self, t: Tensor) -> Tensor:
        """Return ``f(t) = -beta / 2``."""
        return -0.5 * self.beta(t)
