"""EDM's stochastic sampler: added noise, then Heun's or Euler's method."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.noise import Noise
from sde_gen.sde.base import SDE
from sde_gen.solver._table import History, TableSolver
from sde_gen.solver._validation import require_descent, require_order, require_signal


class EDMChurnCoefficients(NamedTuple):
    """Time of the increased noise, reached by ``up x + std z``, and the step from ``alpha`` to ``alpha_s``."""

    t: Tensor
    up: float
    std: float
    alpha: float
    alpha_s: float
    d_ratio: float


@dataclass(frozen=True, kw_only=True)
class EDMChurn(TableSolver[EDMChurnCoefficients]):
    r"""Add noise to a higher level, then take a step of Heun's or Euler's method from there to the next time.

    In z = x / alpha and rho = sigma / alpha, in which the probability flow of every process is dz = eps drho,

    .. math::
        \hat\rho &= \min(1 + \gamma,\, \rho_{0} / \rho_t)\, \rho_t, \qquad
        \gamma = \min(S_{churn} / N,\, \sqrt{2} - 1) \text{ where } \rho_t \in [S_{min}, S_{max}], \text{ else } 0 \\
        \hat{z} &= z_t + S_{noise} \sqrt{\hat\rho^2 - \rho_t^2}\; \xi \\
        z_s &= \hat{z} + \tfrac{1}{2} (\rho_s - \hat\rho)
            \left[d + \hat\epsilon(\hat{z} + (\rho_s - \hat\rho)\, d,\, \rho_s)\right], \qquad
            d = \hat\epsilon(\hat{z}, \hat\rho)

    The added noise is the exact transition of the process, so with S_noise = 1 the distribution is of order 2 as soon
    as N > S_churn / (sqrt(2) - 1). S_noise above 1 makes up for detail that networks lose; it is a bias, of
    order 0. The network is never evaluated above the grid's first time. The last step is one like the others, since
    grids end before rho = 0. Without churn this is the paper's algorithm 1; noise of the reverse SDE with
    eta = 1 corresponds to an S_churn of log(rho_0 / rho_N).

    With one stage the step is Euler's, z_s = z + (rho_s - rho) d, of order 1: k-diffusion's ``sample_euler``.

    Source: Karras et al., 2022, arXiv:2206.00364, algorithm 2; there 30 to 80 with N = 128 to 256 (table 5).

    Arguments:
        s_churn: amount of churn over the whole grid; 0 is deterministic.
        s_min: smallest sigma / alpha with churn.
        s_max: largest sigma / alpha with churn.
        s_noise: factor on the noise' standard deviation; the paper has 1.003 to 1.007.
        stages: evaluations of a step: 2 of Heun's method, 1 of Euler's.

    Raises:
        ValueError: s_churn is negative or not finite, not 0 <= s_min <= s_max, or s_noise is not positive;
            or stages is neither 1 nor 2.
    """

    s_churn: float = 5.0
    s_min: float = 0.0
    s_max: float = math.inf
    s_noise: float = 1.0
    stages: int = 2

    def __post_init__(self) -> None:
        if not 0 <= self.s_churn < math.inf:
            raise ValueError(f"s_churn={self.s_churn} must be finite and not negative; 0 puts no noise in")
        if not 0 <= self.s_min <= self.s_max:
            raise ValueError(f"s_min={self.s_min}, s_max={self.s_max}: expected 0 <= s_min <= s_max")
        if not 0 < self.s_noise < math.inf:
            raise ValueError(f"s_noise={self.s_noise} must be positive and finite; 1 is exact")
        require_order((1, 2), stages=self.stages)

    @property
    def order(self) -> int:
        """The order of Heun's or Euler's method, or 0 with s_noise other than 1."""
        return self.stages if self.s_noise == 1 or not self.stochastic else 0

    @property
    def stochastic(self) -> bool:
        """True if s_churn is positive."""
        return self.s_churn > 0

    @property
    def pathwise(self) -> bool:
        """True if there is no churn, whose noise is fresh."""
        return not self.stochastic

    def check(self, model: Denoiser, times: Tensor) -> None:
        """Raise an error for a start where rho is infinite, and for ascending times with churn."""
        if self.stochastic:
            require_descent(type(self).__name__, times)
        require_signal(type(self).__name__, model, times.max())

    def prepare(self, sde: SDE, times: Tensor) -> list[EDMChurnCoefficients]:
        """Return the coefficients of every step."""
        t = times[:-1]
        ratio = torch.exp(-0.5 * sde.log_snr(times))
        gamma = min(self.s_churn / len(t), math.sqrt(2) - 1)
        churned = (
            (gamma > 0) & (ratio[:-1] >= self.s_min) & (ratio[:-1] <= self.s_max) & (ratio[:-1] < ratio[0])
        )
        high = torch.where(churned, ratio[:-1] * (1 + gamma), ratio[:-1]).clamp(max=float(ratio.max()))
        ups = torch.where(churned, sde.t_from_log_snr(-2 * torch.log(high)), t).clamp(max=float(times.max()))
        up, std = sde.transition(t, ups)
        alpha = sde.alpha(times)
        columns = (up, self.s_noise * std, sde.alpha(ups), alpha[1:], ratio[1:] - high)
        return list(map(EDMChurnCoefficients, ups, *(column.tolist() for column in columns)))

    def apply(
        self,
        model: Denoiser,
        x_t: Tensor,
        t: Tensor,
        s: Tensor,
        row: EDMChurnCoefficients,
        history: History,
        noise: Noise,
    ) -> tuple[Tensor, History]:
        """Add noise, then take a step of Heun's or Euler's method."""
        x = (row.up * x_t).add_(noise.normal(x_t), alpha=row.std) if row.std else x_t
        d, h = model(x, row.t).eps, row.alpha_s * row.d_ratio
        z = row.alpha_s / row.alpha * x
        if self.stages == 1:
            return z.add_(d, alpha=h), history
        d_s = model(z.add(d, alpha=h), s).eps
        return z.add_(d + d_s, alpha=0.5 * row.alpha_s * row.d_ratio), history

    def nfe(self, steps: int) -> int:
        """Return the number of evaluations, one or two per step."""
        return self.stages * steps
