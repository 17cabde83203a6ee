"""DDIM: deterministic or, by eta, partly stochastic."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.noise import Noise
from sde_gen.sde.base import SDE
from sde_gen.solver._table import History, TableSolver


class DDIMCoefficients(NamedTuple):
    """``x_s = x0 hat x_0 + eps hat eps + noise z``."""

    x0: float
    eps: float
    noise: float


@dataclass(frozen=True, kw_only=True)
class DDIM(TableSolver[DDIMCoefficients]):
    r"""Denoise with the predicted x_0 and noise, part of which is drawn anew.

    .. math::
        x_s = \alpha_s \hat{x}_0 + \sqrt{\sigma_s^2 - c^2}\, \hat\epsilon + c\, z, \qquad
        c = \eta\, \sigma_s \sqrt{1 - \mathrm{SNR}_t / \mathrm{SNR}_s}

    c / eta is the standard deviation of q(x_s | x_t, x_0). eta = 0 is the first exponential integrator of the
    probability flow, finite where alpha is zero; eta = 1 is ancestral sampling.

    Source: Song et al., 2020, arXiv:2010.02502, eq. 12 and 16, for any alpha and sigma.

    Arguments:
        eta: 0 draws no noise, 1 as much as the posterior has.

    Raises:
        ValueError: eta lies outside [0, 1].
    """

    eta: float = 0.0
    order: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta={self.eta} must lie in [0, 1]: 0 is deterministic, 1 ancestral")

    @property
    def stochastic(self) -> bool:
        """True if eta is positive."""
        return self.eta > 0

    def check(self, model: Denoiser, times: Tensor) -> None:
        """Raise an error for noise toward larger times."""
        del model
        if self.eta > 0 and bool(times[-1] > times[0]):
            raise ValueError(
                f"eta={self.eta}: with noise DDIM goes from large to small times only; use eta=0 to encode"
            )

    def prepare(self, sde: SDE, times: Tensor) -> list[DDIMCoefficients]:
        """Return the coefficients of every step."""
        alpha, sigma = (part[1:] for part in sde.marginal(times))
        if self.eta == 0:
            return list(map(DDIMCoefficients, alpha.tolist(), sigma.tolist(), [0.0] * len(alpha)))
        fresh = -torch.expm1(-sde.log_snr(times).diff())
        eps, noise = sigma * torch.sqrt(1 - self.eta**2 * fresh), self.eta * sigma * torch.sqrt(fresh)
        return list(map(DDIMCoefficients, alpha.tolist(), eps.tolist(), noise.tolist()))

    def apply(
        self,
        model: Denoiser,
        x_t: Tensor,
        t: Tensor,
        s: Tensor,
        row: DDIMCoefficients,
        history: History,
        noise: Noise,
    ) -> tuple[Tensor, History]:
        """Combine the prediction and noise."""
        prediction = model(x_t, t)
        x_s = row.x0 * prediction.x0 + row.eps * prediction.eps
        return x_s + row.noise * noise(x_t, float(t), float(s)) if row.noise else x_s, history
