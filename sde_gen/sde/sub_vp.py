"""Sub-variance-preserving (sub-VP) process."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.sde._linear_beta import LinearBeta


@dataclass(frozen=True, kw_only=True)
class SubVP(LinearBeta):
    r"""dx = -beta(t) x / 2 dt + sqrt(beta(t) (1 - exp(-2 B(t)))) dw with beta linear in t.

    .. math::
        \alpha = e^{-B/2}, \qquad \sigma = 1 - e^{-B}, \qquad B(t) = \int_0^t \beta :

    the drift of VP with less noise, its variance is VP's squared.

    Source: Song et al., 2021, arXiv:2011.13456, section 3.4, appendices B and C (beta 0.1 to 20, t_min 1e-5).

    Arguments:
        beta_min: beta at t = 0.
        beta_max: beta at t = 1.
        t_min: the smallest time.

    Raises:
        ValueError: not 0 <= beta_min <= beta_max < inf with beta_max > 0, or t_min outside (0, 1).
    """

    def sigma(self, t: Tensor) -> Tensor:
        """Return ``sigma(t) = 1 - exp(-B)``, by expm1."""
        return -torch.expm1(-self.integral(t))

    def sigma_dot(self, t: Tensor) -> Tensor:
        """Return ``sigma'(t) = beta exp(-B)``."""
        return self.beta(t) * torch.exp(-self.integral(t))

    def log_snr(self, t: Tensor) -> Tensor:
        """Return ``-B - 2 log(1 - exp(-B))``."""
        integral = self.integral(t)
        return -integral - 2 * torch.log(-torch.expm1(-integral))

    def t_from_log_snr(self, log_snr: Tensor) -> Tensor:
        """Solve sigma / alpha = 2 sinh(B / 2) for B, then for t."""
        return self.t_from_integral(2 * torch.asinh(0.5 * torch.exp(-0.5 * log_snr)))

    def diffusion(self, t: Tensor) -> Tensor:
        """Return ``g(t) = sqrt(beta (1 - exp(-2 B)))``."""
        return torch.sqrt(-self.beta(t) * torch.expm1(-2 * self.integral(t)))
