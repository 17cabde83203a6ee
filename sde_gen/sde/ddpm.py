"""Discrete beta tables in continuous time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from sde_gen.sde._spline import Cubic, increasing_cubic
from sde_gen.sde.base import SDE

MOST_STEPS = 100_000
"""Maximum number of betas of a table."""


def linear_betas(*, steps: int = 1000, beta_min: float = 1e-4, beta_max: float = 0.02) -> tuple[float, ...]:
    """Make the linear table of Ho et al., 2020, arXiv:2006.11239, section 4."""
    _check_steps(steps)
    return tuple(np.linspace(beta_min, beta_max, steps).tolist())


def scaled_linear_betas(
    *, steps: int = 1000, beta_min: float = 0.00085, beta_max: float = 0.012
) -> tuple[float, ...]:
    """Make the table that is linear in the root of beta (Rombach et al., 2022, arXiv:2112.10752, in their code)."""
    _check_steps(steps)
    if not (beta_min >= 0 and beta_max >= 0):
        raise ValueError(f"beta_min={beta_min}, beta_max={beta_max}: both must lie strictly between 0 and 1")
    return tuple((np.linspace(beta_min**0.5, beta_max**0.5, steps) ** 2).tolist())


def cosine_betas(*, steps: int = 1000, offset: float = 0.008, beta_limit: float = 0.999) -> tuple[float, ...]:
    """Make the cosine table of Nichol and Dhariwal, 2021, arXiv:2102.09672, eq. 17."""
    _check_steps(steps)
    alpha2 = np.cos((np.arange(steps + 1) / steps + offset) / (1 + offset) * math.pi / 2) ** 2
    return tuple(np.minimum(1 - alpha2[1:] / alpha2[:-1], beta_limit).tolist())


def sigmoid_betas(*, steps: int = 1000, beta_min: float = 1e-4, beta_max: float = 0.02) -> tuple[float, ...]:
    """Make the table that is a logistic function from -6 to 6 (Xu et al., 2022, arXiv:2203.02923, in their code)."""
    _check_steps(steps)
    share = 1 / (1 + np.exp(-np.linspace(-6, 6, steps)))
    return tuple((beta_min + (beta_max - beta_min) * share).tolist())


def zero_snr_betas(*, betas: Sequence[float], beta_limit: float = 0.999) -> tuple[float, ...]:
    r"""Rescale a table to zero signal after the last step (zero terminal SNR).

    .. math::
        \alpha'_n = \alpha_1 \frac{\alpha_n - \alpha_N}{\alpha_1 - \alpha_N} .

    So beta_N = 1, where the log-SNR is minus infinity; as in :func:`cosine_betas` it ends at a limit here, which leaves
    a 30th of the signal of the step before.

    Source: Lin et al., 2023, arXiv:2305.08891, algorithm 1 (their root of alpha-bar is our alpha).

    Arguments:
        betas: beta_1, ..., beta_N.
        beta_limit: the largest beta.

    Raises:
        ValueError: fewer than 4 betas, or one outside (0, 1).
    """
    _check(betas)
    alpha = np.sqrt(np.cumprod(1 - np.array(betas, dtype=float)))
    left = alpha - alpha[-1]  # alpha' up to a factor, which is 1 at the first step
    return tuple(np.minimum(np.append(float(betas[0]), 1 - (left[1:] / left[:-1]) ** 2), beta_limit).tolist())


@dataclass(frozen=True, kw_only=True)
class DDPM(SDE):
    r"""The chain x_n = sqrt(1 - beta_n) x_{n-1} + sqrt(beta_n) eps, n = 1, ..., N, at the times t = n / N.

    Between its times it is a variance-preserving process: with B(t) a twice differentiable increasing cubic
    spline through :math:`B(n / N) = -\sum_{i \le n} \log(1 - \beta_i)`,

    .. math::
        \alpha = e^{-B/2}, \quad \sigma = \sqrt{1 - e^{-B}}, \quad \lambda = -\log(e^B - 1), \quad
        \beta(t) = B'(t) .

    B is the log-SNR in the variable in which a table is smooth, t = 0 included. At the chain's times all is
    exact, and transition and posterior are the chain's.

    Source: Ho et al., 2020, arXiv:2006.11239, eq. 2 and 4 (their alpha-bar is alpha^2 here); the interpolation is not
    in the paper.

    Arguments:
        betas: beta_1, ..., beta_N, see :func:`linear_betas` and :func:`cosine_betas`.

    Raises:
        ValueError: fewer than 4 betas, or one outside (0, 1).
    """

    betas: tuple[float, ...] = field(default_factory=linear_betas, repr=False)
    t_min: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        betas = tuple(float(beta) for beta in self.betas)
        _check(betas)
        object.__setattr__(self, "betas", betas)
        object.__setattr__(self, "t_min", 1 / len(betas))

    @cached_property
    def integral(self) -> Cubic:
        """B(t), minus the logarithm of alpha-bar."""
        values = np.append(0.0, -np.cumsum(np.log1p(-np.array(self.betas))))
        return increasing_cubic(np.linspace(0, 1, len(values)), values)

    def alpha(self, t: Tensor) -> Tensor:
        """Return ``alpha(t) = exp(-B / 2)``."""
        return torch.exp(-0.5 * self.integral(t))

    def sigma(self, t: Tensor) -> Tensor:
        """Return ``sigma(t) = sqrt(1 - exp(-B))``, by expm1."""
        return torch.sqrt(-torch.expm1(-self.integral(t)))

    def alpha_dot(self, t: Tensor) -> Tensor:
        """Return ``alpha'(t) = -B' alpha / 2``."""
        return -0.5 * self.integral.derivative(t) * self.alpha(t)

    def sigma_dot(self, t: Tensor) -> Tensor:
        """Return ``sigma'(t) = B' exp(-B) / (2 sigma)``."""
        return 0.5 * self.integral.derivative(t) * torch.exp(-self.integral(t)) / self.sigma(t)

    def log_snr(self, t: Tensor) -> Tensor:
        """Return ``-B - log(1 - exp(-B))``."""
        integral = self.integral(t)
        return -integral - torch.log(-torch.expm1(-integral))

    def drift_rate(self, t: Tensor) -> Tensor:
        """Return ``f(t) = -B' / 2``."""
        return -0.5 * self.integral.derivative(t)

    def diffusion(self, t: Tensor) -> Tensor:
        """Return ``g(t) = sqrt(B')``."""
        return torch.sqrt(self.integral.derivative(t))


def _check_steps(steps: int) -> None:
    if steps < 4:
        raise ValueError(f"a table of {steps} betas is too short to interpolate: give at least 4")
    if steps > MOST_STEPS:
        raise ValueError(f"a table of {steps} betas is too long: give at most {MOST_STEPS:,}")


def _check(betas: Sequence[float]) -> None:
    _check_steps(len(betas))
    for n, beta in enumerate(betas, 1):
        if not 0 < beta < 1:
            raise ValueError(f"beta_{n}={beta} must lie strictly between 0 and 1")
