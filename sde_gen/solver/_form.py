r"""The probability flow between two times, written for one prediction.

In every form

.. math::
    x_s = \mathrm{keep}\, x_t + \int k_s(u)\, m(u)\, du ,

with m the predicted clean sample or noise along the path.

Sources: Lu et al., 2022, arXiv:2206.00927, proposition 3.1, and arXiv:2211.01095, proposition 4.1.
"""

import abc
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.prediction import Prediction
from sde_gen.sde.base import SDE
from sde_gen.solver._check import require_signal
from sde_gen.solver._weights import adams, at


class Form(abc.ABC):
    """The probability flow on a grid, written for one prediction.

    Arguments:
        sde: the process.
        times: monotone times with shape (steps + 1,).

    Attributes:
        alpha: signal coefficients at the times.
        sigma: noise standard deviations.
        lam: log(alpha / sigma).
        share: (1, 0) where the m that is interpolated is x_0, (0, 1) where it is eps.
    """

    share: ClassVar[tuple[float, float]]

    def __init__(self, sde: SDE, times: Tensor) -> None:
        self.sde, self.times = sde, times
        self.alpha, self.sigma = sde.marginal(times)
        self.lam = 0.5 * sde.log_snr(times)

    @classmethod
    def check(cls, solver: str, model: Denoiser, times: Tensor) -> None:
        """Raise ValueError where the form does not exist."""
        del solver, model, times

    @staticmethod
    @abc.abstractmethod
    def value(prediction: Prediction) -> Tensor:
        """The m that is interpolated, with shape (B, *event)."""

    @abc.abstractmethod
    def keep(self, start: Tensor, end: Tensor) -> Tensor:
        """Factors of x from times[start] to times[end], with shape (R,)."""

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


class DataForm(Form):
    r"""Data prediction, polynomials in lam: ``x_s = sigma_s/sigma_t x_t + alpha_s int e^{u - lam_s} x_0 du``.

    On a grid with alpha = 0, where lam is infinite and steps in lam do not become short, the polynomials are in
    ``y = alpha / sigma = e^lam`` for alpha < sigma: ``x_s = sigma_s/sigma_t x_t + sigma_s int x_0 dy``.
    """

    share: ClassVar[tuple[float, float]] = (1.0, 0.0)

    @staticmethod
    def value(prediction: Prediction) -> Tensor:
        """The predicted clean sample."""
        return prediction.x0

    def keep(self, start: Tensor, end: Tensor) -> Tensor:
        """``sigma_s / sigma_t``."""
        return self.sigma[end] / self.sigma[start]

    def weights(self, start: Tensor, end: Tensor, nodes: Tensor) -> Tensor:
        """Integrate in lam, or in y."""
        alpha, lam = self.alpha[end].unsqueeze(-1), self.lam[end].unsqueeze(-1)
        places = (at(self.lam, nodes), self.lam[start], self.lam[end])
        weights = adams(lambda u: alpha * torch.exp(u - lam), *places)
        if bool(self.lam.isinf().any()):
            y, sigma = self.alpha / self.sigma, self.sigma[end].unsqueeze(-1)
            linear = adams(lambda u: sigma.expand_as(u), at(y, nodes), y[start], y[end])
            noisy = (torch.minimum(places[1], places[2]) < 0) | places[0].isinf().any(-1)
            weights = torch.where(noisy.unsqueeze(-1), linear, weights)
        return weights


class NoiseForm(Form):
    r"""Noise prediction, polynomials in lam: ``x_s = alpha_s/alpha_t x_t - sigma_s int e^{lam_s - u} eps du``."""

    share: ClassVar[tuple[float, float]] = (0.0, 1.0)

    @classmethod
    def check(cls, solver: str, model: Denoiser, times: Tensor) -> None:
        """Refuse a start, or an end, without signal."""
        require_signal(solver, model, times.max())

    @staticmethod
    def value(prediction: Prediction) -> Tensor:
        """The predicted noise."""
        return prediction.eps

    def keep(self, start: Tensor, end: Tensor) -> Tensor:
        """``alpha_s / alpha_t``."""
        return self.alpha[end] / self.alpha[start]

    def weights(self, start: Tensor, end: Tensor, nodes: Tensor) -> Tensor:
        """Integrate in lam."""
        sigma, lam = self.sigma[end].unsqueeze(-1), self.lam[end].unsqueeze(-1)
        places = at(self.lam, nodes), self.lam[start], self.lam[end]
        return adams(lambda u: -sigma * torch.exp(lam - u), *places)
