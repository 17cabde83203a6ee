r"""Ancestral steps of two stages: along the flow towards data, then noise.

In z = x / alpha and rho = sigma / alpha, of which the probability flow of every process is dz = eps drho, a step from
rho_t to rho_s is one of the flow to rho_d, below rho_s, and noise of the standard deviation rho_u,

.. math::
    \rho_u = \eta\, \rho_s \sqrt{1 - \rho_s^2 / \rho_t^2}, \qquad \rho_d = \sqrt{\rho_s^2 - \rho_u^2} .

Where the flow is exact, so is the distribution of z_s, whatever the step's length.

Source: Song et al., 2020, arXiv:2010.02502, eq. 16, in the form of k-diffusion's ``get_ancestral_step``.
"""

import abc
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.denoiser.prediction import Prediction
from sde_gen.noise import Noise
from sde_gen.sde.base import SDE
from sde_gen.solver._table import History, TableSolver
from sde_gen.solver._validation import require_descent, require_signal


def ancestral_step(start: Tensor, end: Tensor, eta: float) -> tuple[Tensor, Tensor]:
    """The ratios rho_d to go down to and rho_u of the noise, for steps between ratios, all with shape (steps,)."""
    up = eta * end * torch.sqrt(-torch.expm1(2 * torch.log(end / start))) if eta else torch.zeros_like(end)
    return torch.sqrt(end**2 - up**2), up


class Stages(NamedTuple):
    r"""The stages of steps, in z = x / alpha, each with shape (steps,).

    .. math::
        z_m &= k z_t + w m_t + n\, \xi_1 \\
        z_s &= k' z_t + w'_0 m_t + w'_1 m_m + n'_1 \xi_1 + n'_2 \xi_2

    with m the prediction that the method combines, xi_1 the noise from t to m where n is positive, and xi_2 that of
    the rest of the step.
    """

    ratio: Tensor
    keep: Tensor
    weight: Tensor
    noise: Tensor
    last_keep: Tensor
    first_weight: Tensor
    second_weight: Tensor
    first_noise: Tensor
    second_noise: Tensor


class AncestralCoefficients(NamedTuple):
    """Time of the second stage, and the coefficients of both stages in x."""

    middle: Tensor
    keep: float
    weight: float
    noise: float
    last_keep: float
    first_weight: float
    second_weight: float
    first_noise: float
    second_noise: float


@dataclass(frozen=True, kw_only=True)
class AncestralTwoStage(TableSolver[AncestralCoefficients]):
    """An ancestral solver with two evaluations a step.

    Arguments:
        eta: 0 is the probability flow, 1 puts as much noise in as the posterior has.

    Raises:
        ValueError: eta lies outside [0, 1].
    """

    eta: float = 1.0
    order: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta={self.eta} must lie in [0, 1]: 0 is the probability flow, 1 ancestral")

    @property
    def stochastic(self) -> bool:
        """True if eta is positive."""
        return self.eta > 0

    def check(self, model: Denoiser, times: Tensor) -> None:
        """Raise an error for a start where rho is infinite, and for ascending times with noise."""
        if self.stochastic:
            require_descent(type(self).__name__, times)
        require_signal(type(self).__name__, model, times.max())

    @staticmethod
    @abc.abstractmethod
    def value(prediction: Prediction) -> Tensor:
        """The m that the stages combine, with shape (B, *event)."""

    @abc.abstractmethod
    def stages(self, start: Tensor, end: Tensor) -> Stages:
        """Both stages of the steps between ratios, with shape (steps,)."""

    def prepare(self, sde: SDE, times: Tensor) -> list[AncestralCoefficients]:
        """Return the coefficients of every step."""
        ratio = torch.exp(-0.5 * sde.log_snr(times))
        stages = self.stages(ratio[:-1], ratio[1:])
        middles = self.middles(sde, stages.ratio, times)
        alpha_t, alpha_m, alpha_s = sde.alpha(times[:-1]), sde.alpha(middles), sde.alpha(times[1:])
        columns = (
            alpha_m / alpha_t * stages.keep,
            alpha_m * stages.weight,
            alpha_m * stages.noise,
            alpha_s / alpha_t * stages.last_keep,
            alpha_s * stages.first_weight,
            alpha_s * stages.second_weight,
            alpha_s * stages.first_noise,
            alpha_s * stages.second_noise,
        )
        return list(map(AncestralCoefficients, middles, *(column.tolist() for column in columns)))

    @staticmethod
    def middles(sde: SDE, ratio: Tensor, times: Tensor) -> Tensor:
        """Times of the middles, between those of their steps."""
        low, high = torch.minimum(times[:-1], times[1:]), torch.maximum(times[:-1], times[1:])
        return torch.minimum(torch.maximum(sde.t_from_log_snr(-2 * torch.log(ratio)), low), high)

    def apply(
        self,
        model: Denoiser,
        x_t: Tensor,
        t: Tensor,
        s: Tensor,
        row: AncestralCoefficients,
        history: History,
        noise: Noise,
    ) -> tuple[Tensor, History]:
        """Evaluate both stages and add the noise."""
        m, keep, weight, std, last_keep, w_0, w_1, std_1, std_2 = row
        first = self.value(model(x_t, t))
        x_m = (keep * x_t).add_(first, alpha=weight)
        x_s = (last_keep * x_t).add_(first, alpha=w_0)
        begin = float(t)
        if std:
            middle = float(m)
            xi = noise(x_t, begin, middle)
            x_m.add_(xi, alpha=std)
            x_s.add_(xi, alpha=std_1)
            begin = middle
        x_s.add_(self.value(model(x_m, m)), alpha=w_1)
        if std_2:
            x_s.add_(noise(x_t, begin, float(s)), alpha=std_2)
        return x_s, history

    def nfe(self, steps: int) -> int:
        """Return the number of evaluations: two per step."""
        return 2 * steps
