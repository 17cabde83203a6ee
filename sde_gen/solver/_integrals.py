r"""Integrals of the probability flow between two times, for one prediction.

With either prediction

.. math::
    x_s = a\, x_t + \int k_s(u)\, m(u)\, du ,

with m the predicted clean sample or noise along the path.

Sources: Lu et al., 2022, arXiv:2206.00927, proposition 3.1, and arXiv:2211.01095, proposition 4.1.
"""

import abc
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.denoiser.prediction import Prediction
from sde_gen.sde.base import SDE
from sde_gen.solver._lagrange import adams_weights, values_at
from sde_gen.solver._validation import require_signal


class FlowIntegral(abc.ABC):
    """The probability flow on a grid, integrated for one prediction.

    Arguments:
        sde: the process.
        times: monotone times with shape (steps + 1,).

    Attributes:
        alpha: signal coefficients at the times.
        sigma: noise standard deviations.
        lam: log(alpha / sigma).
        combination: coefficients of x_0 and eps in m: (1, 0) or (0, 1).
    """

    combination: ClassVar[tuple[float, float]]

    def __init__(self, sde: SDE, times: Tensor) -> None:
        self.sde, self.times = sde, times
        self.alpha, self.sigma = sde.marginal(times)
        self.lam = 0.5 * sde.log_snr(times)

    @classmethod
    def check(cls, solver: str, model: Denoiser, times: Tensor) -> None:
        """Raise ValueError where the integral does not exist."""
        del solver, model, times

    @staticmethod
    @abc.abstractmethod
    def value(prediction: Prediction) -> Tensor:
        """The m that is interpolated, with shape (B, *event)."""

    @abc.abstractmethod
    def x_coef(self, start: Tensor, end: Tensor) -> Tensor:
        """Factors of x from times[start] to times[end], with shape (R,)."""

    @abc.abstractmethod
    def kernel(self, u: Tensor, end: Tensor) -> Tensor:
        """The factor k_s of m in the integral over lam, up to times[end] (R,), at u (R, Q)."""

    def error_gain(self, start: Tensor, end: Tensor, nodes: Tensor) -> Tensor:
        r"""Error of x at the end per unit of weight at nodes.

        Towards data the error of x_0 counts, towards noise that of eps. An error ``delta`` of x_0 is one of
        ``-(alpha / sigma) delta`` of eps, so a weight w of the prediction at u moves

        .. math::
            \frac{x_s}{\alpha_s} \text{ by } \frac{w}{\alpha_s} c(u)\, \delta \text{ if } \alpha_s / \sigma_s
            \ge \alpha_t / \sigma_t, \qquad
            \frac{x_s}{\sigma_s} \text{ by } \frac{w}{\sigma_s} c(u)\, \delta \text{ else,}

        with c = 1 for that prediction. For the other c is alpha / sigma or its inverse, but at most
        1, the size of data and of noise.

        Arguments:
            start: indices with shape (R,).
            end: indices with shape (R,).
            nodes: indices of nodes with shape (R, k), -1 where a row has fewer.

        Returns:
            Factors of weights with shape (R, k).
        """
        down = self.lam[end] >= self.lam[start]
        to_data, to_noise = self.combination
        y = (self.alpha / self.sigma)[nodes]
        c = torch.where(down.unsqueeze(-1), to_data + to_noise * y, to_noise + to_data / y).clamp(max=1)
        return c / torch.where(down, self.alpha[end], self.sigma[end]).unsqueeze(-1)

    @abc.abstractmethod
    def weights(self, start: Tensor, end: Tensor, nodes: Tensor) -> Tensor:
        """Weights of the predictions at nodes, from times[start] to times[end].

        Arguments:
            start: indices with shape (R,).
            end: indices with shape (R,).
            nodes: indices of nodes with shape (R, k), -1 where a row has fewer.

        Returns:
            Weights with shape (R, k), 0 where there is no node.
        """


class X0Integral(FlowIntegral):
    r"""Data prediction, polynomials in lam: ``x_s = sigma_s/sigma_t x_t + alpha_s int e^{u - lam_s} x_0 du``.

    On a grid with alpha = 0, where lam is infinite and steps in lam do not become short, the polynomials are in
    ``y = alpha / sigma = e^lam`` for alpha < sigma: ``x_s = sigma_s/sigma_t x_t + sigma_s int x_0 dy``. For
    alpha >= sigma the prediction at alpha = 0, infinitely far in lam, is left out.
    """

    combination: ClassVar[tuple[float, float]] = (1.0, 0.0)
    eta2: float = 0.0

    @staticmethod
    def value(prediction: Prediction) -> Tensor:
        """Return the predicted clean sample x0."""
        return prediction.x0

    def x_coef(self, start: Tensor, end: Tensor) -> Tensor:
        """Return ``sigma_s / sigma_t``, the coefficient of x_t."""
        return self.sigma[end] / self.sigma[start]

    def kernel(self, u: Tensor, end: Tensor) -> Tensor:
        """``c alpha_s e^{c (u - lam_s)}``."""
        c, alpha, lam = 1 + self.eta2, self.alpha[end].unsqueeze(-1), self.lam[end].unsqueeze(-1)
        return c * alpha * torch.exp(c * (u - lam))

    def weights(self, start: Tensor, end: Tensor, nodes: Tensor) -> Tensor:
        r"""Integrate in lam, or in y.

        With the noise of :class:`~sde_gen.solver.SDEIntegral`, and c = 1 + eta^2, the kernel is
        ``c alpha_s e^{c (u - lam_s)} du = c sigma_s (y / y_s)^{eta^2} dy``.
        """
        c = 1 + self.eta2
        noisy = (torch.minimum(self.lam[start], self.lam[end]) < 0).unsqueeze(-1)
        nodes = nodes.masked_fill(~noisy & self.lam[nodes].isinf(), -1)
        in_lam = adams_weights(
            lambda u: self.kernel(u, end), values_at(self.lam, nodes), self.lam[start], self.lam[end]
        )
        if not bool(self.lam.isinf().any()):
            return in_lam
        y, sigma = self.alpha / self.sigma, self.sigma[end].unsqueeze(-1)
        y_s = y[end].unsqueeze(-1)
        in_y = adams_weights(
            lambda u: c * sigma * (u / y_s) ** self.eta2, values_at(y, nodes), y[start], y[end]
        )
        return torch.where(noisy, in_y, in_lam)


class EpsIntegral(FlowIntegral):
    r"""Noise prediction, polynomials in lam: ``x_s = alpha_s/alpha_t x_t - sigma_s int e^{lam_s - u} eps du``."""

    combination: ClassVar[tuple[float, float]] = (0.0, 1.0)

    @classmethod
    def check(cls, solver: str, model: Denoiser, times: Tensor) -> None:
        """Raise ValueError for a grid that starts or ends where alpha is zero."""
        require_signal(solver, model, times.max())

    @staticmethod
    def value(prediction: Prediction) -> Tensor:
        """Return the predicted noise eps."""
        return prediction.eps

    def x_coef(self, start: Tensor, end: Tensor) -> Tensor:
        """Return ``alpha_s / alpha_t``, the coefficient of x_t."""
        return self.alpha[end] / self.alpha[start]

    def kernel(self, u: Tensor, end: Tensor) -> Tensor:
        """``-sigma_s e^{lam_s - u}``."""
        sigma, lam = self.sigma[end].unsqueeze(-1), self.lam[end].unsqueeze(-1)
        return -sigma * torch.exp(lam - u)

    def weights(self, start: Tensor, end: Tensor, nodes: Tensor) -> Tensor:
        """Integrate the interpolating polynomials in lam, exactly."""
        places = values_at(self.lam, nodes), self.lam[start], self.lam[end]
        return adams_weights(lambda u: self.kernel(u, end), *places)
