"""Variance-preserving (VP) process."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.sde._linear_beta import LinearBeta


@dataclass(frozen=True, kw_only=True)
class VP(LinearBeta):
    r"""dx = -beta(t) x / 2 dt + sqrt(beta(t)) dw with beta linear in t.

    .. math::
        \beta(t) = \beta_0 + t (\beta_1 - \beta_0), \quad B(t) = \int_0^t \beta, \quad
        \alpha = e^{-B/2}, \quad \sigma = \sqrt{1 - e^{-B}} .

    Source: Song et al., 2021, arXiv:2011.13456, eq. 11 and 33, appendix C (beta 0.1 to 20, t_min 1e-5).

    Arguments:
        beta_min: beta at t = 0.
        beta_max: beta at t = 1.
        t_min: the smallest time.

    Raises:
        ValueError: not 0 <= beta_min <= beta_max < inf with beta_max > 0, or t_min outside (0, 1).
    """

    def sigma(self, t: Tensor) -> Tensor:
        """sqrt(1 - exp(-B)), by expm1."""
        return torch.sqrt(-torch.expm1(-self.integral(t)))

    def sigma_dot(self, t: Tensor) -> Tensor:
        """Beta exp(-B) / (2 sigma)."""
        return 0.5 * self.beta(t) * torch.exp(-self.integral(t)) / self.sigma(t)

    def log_snr(self, t: Tensor) -> Tensor:
        """-B - log(1 - exp(-B)), which no B makes overflow."""
        integral = self.integral(t)
        return -integral - torch.log(-torch.expm1(-integral))

    def t_from_log_snr(self, log_snr: Tensor) -> Tensor:
        """Solve B(t) = log(1 + exp(-log_snr))."""
        return self.t_from_integral(torch.logaddexp(torch.zeros_like(log_snr), -log_snr))

    def diffusion(self, t: Tensor) -> Tensor:
        """Return ``g(t) = sqrt(beta)``."""
        return torch.sqrt(self.beta(t))
