r"""Exponential Adams methods with exact noise, the base of multistep solvers of the reverse SDE.

In data prediction, with lam = log(alpha / sigma), h = lam_s - lam_t and u running over lam, the reverse SDE of
strength eta (:class:`~sde_gen.denoiser.ReverseSDE`) is solved by

.. math::
    x_s = \frac{\sigma_s}{\sigma_t} e^{-\eta^2 h} x_t
        + \alpha_s (1 + \eta^2) \int_{\ell_t}^{\ell_s} e^{-(1 + \eta^2)(\ell_s - u)} \hat{x}_0(u)\, du
        + \sigma_s \sqrt{1 - e^{-2 \eta^2 h}}\, z .

The prediction along the path is replaced by the polynomial through past predictions. Noise added since then changes
these by a random error of mean zero: the mean has the order of the polynomial, the covariance order 2, since the
last prediction is independent of the last step's noise.

Sources: Lu et al., 2022, arXiv:2211.01095, eq. 17 and proposition 4.1 for eta = 1, any eta and orders as in
Xue et al., 2023, arXiv:2309.05019, section 4; stochastic Adams methods of weak order 2: our derivation, and measured.
"""

import abc
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.noise import Noise
from sde_gen.sde.base import SDE
from sde_gen.solver._integrals import EpsIntegral, X0Integral
from sde_gen.solver._multistep import StepCoefficients, combine
from sde_gen.solver._table import History, TableSolver
from sde_gen.solver._validation import require_descent, require_eta
from sde_gen.solver.multistep_weights import MultistepWeights


class SDEIntegral(X0Integral):
    """The reverse SDE of strength eta on a grid, written for the predicted clean sample.

    Arguments:
        sde: the process.
        times: monotone times with shape (steps + 1,).
        eta: strength of the noise.
    """

    def __init__(self, sde: SDE, times: Tensor, eta: float) -> None:
        super().__init__(sde, times)
        self.eta2 = eta**2

    def x_coef(self, start: Tensor, end: Tensor) -> Tensor:
        """``sigma_s / sigma_t exp(-eta^2 h)``; h may be infinite."""
        y = self.alpha / self.sigma
        return super().x_coef(start, end) * (y[start] / y[end]) ** self.eta2

    def std(self) -> Tensor:
        """Standard deviation of every step's noise with shape (steps,)."""
        if self.eta2 == 0:
            return torch.zeros_like(self.times[1:])
        return self.sigma[1:] * torch.sqrt(-torch.expm1(-2 * self.eta2 * self.lam.diff()))


class NoiseSDEIntegral(EpsIntegral):
    r"""The reverse SDE of strength eta on a grid, written for the predicted noise.

    .. math::
        x_s = \frac{\alpha_s}{\alpha_t} x_t - (1 + \eta^2)\, \sigma_s \int e^{\lambda_s - u} \hat\epsilon(u)\, du
            + \eta\, \sigma_s \sqrt{e^{2 h} - 1}\, z

    Arguments:
        sde: the process.
        times: monotone times with shape (steps + 1,).
        eta: strength of the noise.
    """

    def __init__(self, sde: SDE, times: Tensor, eta: float) -> None:
        super().__init__(sde, times)
        self.eta2 = eta**2

    def kernel(self, u: Tensor, end: Tensor) -> Tensor:
        """``-(1 + eta^2) sigma_s e^{lam_s - u}``."""
        return (1 + self.eta2) * super().kernel(u, end)

    def std(self) -> Tensor:
        """Standard deviation of every step's noise with shape (steps,)."""
        if self.eta2 == 0:
            return torch.zeros_like(self.times[1:])
        return self.sigma[1:] * torch.sqrt(self.eta2 * torch.expm1(2 * self.lam.diff()))


@dataclass(frozen=True, kw_only=True)
class SDEMultistepSolver(TableSolver[tuple[StepCoefficients, float]]):
    """A linear combination of past predictions, and noise of the exact strength.

    Arguments:
        eta: strength of the noise.
        weights: a published rule for the weights of past predictions; None: this package's.

    Raises:
        ValueError: eta is negative or not finite.
    """

    multistep: ClassVar[bool] = True
    eta: float = 1.0
    weights: MultistepWeights | None = None
    integral: ClassVar[type[SDEIntegral] | type[NoiseSDEIntegral]] = SDEIntegral
    points: ClassVar[int]

    def __post_init__(self) -> None:
        require_eta(self.eta)

    @property
    def stochastic(self) -> bool:
        """True if eta is positive."""
        return self.eta > 0

    def check(self, model: Denoiser, times: Tensor) -> None:
        """Raise an error for noise toward larger times, and for grids on which the integral does not exist."""
        self.integral.check(type(self).__name__, model, times)
        if self.eta > 0:
            require_descent(type(self).__name__, times)

    def prepare(self, sde: SDE, times: Tensor) -> list[tuple[StepCoefficients, float]]:
        """Return the coefficients and the standard deviation of the noise of every step."""
        integral, steps = self.integral(sde, times, self.eta), len(times) - 1
        if self.weights is None:
            table = self.coefficients(integral, steps)
        else:
            table = self.weights.coefficients(integral, self.points, steps)
        return list(zip(table, integral.std().tolist(), strict=True))

    @abc.abstractmethod
    def coefficients(self, integral: Any, steps: int) -> list[StepCoefficients]:
        """Return the coefficients of every step, where no other rule for the weights is given."""

    def apply(
        self,
        model: Denoiser,
        x_t: Tensor,
        t: Tensor,
        s: Tensor,
        row: tuple[StepCoefficients, float],
        history: History,
        noise: Noise,
    ) -> tuple[Tensor, History]:
        """Combine the prediction at t and those before, and add noise."""
        (x_coef, weights, _), std = row
        values = (self.integral.value(model(x_t, t)), *history)[: len(weights)]
        x_s = combine(x_coef, x_t, weights, values)
        if std:
            x_s.add_(noise(x_t, float(t), float(s)), alpha=std)
        return x_s, values
