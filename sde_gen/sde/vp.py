"""The variance-preserving process."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.sde.base import SDE


@dataclass(frozen=True, kw_only=True)
class VP(SDE):
    r"""dx = -beta(t) x / 2 dt + sqrt(beta(t)) dw with beta linear in t.

    .. math::
        \beta(t) = \beta_0 + t (\beta_1 - \beta_0), \quad B(t) = \int_0^t \beta, \quad
        \alpha = e^{-B/2}, \quad \sigma = \sqrt{1 - e^{-B}} .

    Source: Song et al., 2021, arXiv:2011.13456, eq. 11 and 33, appendix C (beta 0.1 to 20, t_min 1e-5).

    Arguments:
        beta_min: beta at t = 0.
        beta_max: beta at t = 1.
        t_min: the smallest time.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    t_min: float = 1e-5

    def __post_init__(self) -> None:
        """Check the constructor's arguments."""
        if not 0 <= self.beta_min <= self.beta_max or self.beta_max == 0:
            raise ValueError(
                f"beta_min={self.beta_min}, beta_max={self.beta_max}: expected 0 <= beta_min <= beta_max and beta_max > 0"
            )
        if not 0 < self.t_min < 1:
            raise ValueError(f"t_min={self.t_min} must lie strictly between 0 and 1: sigma(0) is zero")

    def integral(self, t: Tensor) -> Tensor:
        """B(t), the integral of beta from 0 to t."""
        return self.beta_min * t + 0.5 * (self.beta_max - self.beta_min) * t**2

    def alpha(self, t: Tensor) -> Tensor:
        """exp(-B / 2)."""
        return torch.exp(-0.5 * self.integral(t))

    def sigma(self, t: Tensor) -> Tensor:
        """sqrt(1 - exp(-B)), by expm1."""
        return torch.sqrt(-torch.expm1(-self.integral(t)))

    def log_snr(self, t: Tensor) -> Tensor:
        """-log(exp(B) - 1)."""
        return -torch.log(torch.expm1(self.integral(t)))

    def t_from_log_snr(self, log_snr: Tensor) -> Tensor:
        """Solve the quadratic B(t) = log(1 + exp(-log_snr)), in the form without cancellation."""
        integral = torch.nn.functional.softplus(-log_snr)
        slope = self.beta_max - self.beta_min
        return 2 * integral / (self.beta_min + torch.sqrt(self.beta_min**2 + 2 * slope * integral))

    def beta(self, t: Tensor) -> Tensor:
        """The rate beta(t)."""
        return self.beta_min + (self.beta_max - self.beta_min) * t

    def drift_rate(self, t: Tensor) -> Tensor:
        """-beta / 2."""
        return -0.5 * self.beta(t)

    def diffusion(self, t: Tensor) -> Tensor:
        """sqrt(beta)."""
        return torch.sqrt(self.beta(t))
