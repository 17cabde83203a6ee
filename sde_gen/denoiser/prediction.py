"""The prediction of a denoiser in all parametrizations."""

from dataclasses import dataclass, replace
from functools import cached_property

from torch import Tensor

from sde_gen.sde.base import Marginal
from sde_gen.utils.broadcasting import broadcast_like


@dataclass(frozen=True)
class Prediction:
    r"""A prediction at ``x_t``: a pair (x0, eps) with ``x_t = alpha x0 + sigma eps``.

    ``x0`` estimates E[x_0 | x_t] and ``eps`` estimates E[eps | x_t]; either determines the other,
    and with them the score and v:

    .. math::
        \nabla \log p_t(x_t) = -\epsilon / \sigma, \qquad v = \alpha \epsilon - \sigma x_0 .

    Source: Tweedie's formula (Efron, 2011); v as in Salimans and Ho, 2022, arXiv:2202.00512.

    Arguments:
        x_t: noisy samples with shape (B, *event).
        x0: predicted clean samples with shape (B, *event).
        eps: predicted noise with shape (B, *event).
        alpha: signal coefficient, broadcastable against x_t.
        sigma: noise standard deviation, broadcastable against x_t.
        aux: additional output of a parametrization: the weight nu of a learned variance, see :attr:`nu`, with shape
            (B, *event); None without.
    """

    x_t: Tensor
    x0: Tensor
    eps: Tensor
    alpha: Tensor
    sigma: Tensor
    aux: Tensor | None = None

    @classmethod
    def from_x0(cls, x_t: Tensor, x0: Tensor, marginal: Marginal, aux: Tensor | None = None) -> "Prediction":
        """Complete a predicted clean sample: ``eps = (x_t - alpha x0) / sigma``."""
        alpha, sigma = broadcast_like(marginal.alpha, x_t), broadcast_like(marginal.sigma, x_t)
        return cls(x_t, x0, (x_t - alpha * x0) / sigma, alpha, sigma, aux)

    @classmethod
    def from_eps(
        cls, x_t: Tensor, eps: Tensor, marginal: Marginal, aux: Tensor | None = None
    ) -> "Prediction":
        """Complete a predicted noise: ``x0 = (x_t - sigma eps) / alpha``."""
        alpha, sigma = broadcast_like(marginal.alpha, x_t), broadcast_like(marginal.sigma, x_t)
        return cls(x_t, (x_t - sigma * eps) / alpha, eps, alpha, sigma, aux)

    def with_x0(self, x0: Tensor) -> "Prediction":
        """Replace the predicted clean sample, and the noise consistently, as guidance does."""
        return replace(self, x0=x0, eps=(self.x_t - self.alpha * x0) / self.sigma)

    @property
    def nu(self) -> Tensor:
        r"""Interpolation weight of a step's log-variance between the posterior's (0) and the transition's (1).

        .. math::
            \log \sigma_p^2 = (1 - \nu) \log \mathrm{Var}[x_s | x_t, x_0] + \nu \log \mathrm{Var}[x_t | x_s]

        A network's output is not restricted to [0, 1].

        Source: Nichol and Dhariwal, 2021, arXiv:2102.09672, eq. 15, whose v is this number.

        Raises:
            ValueError: no variance is predicted.
        """
        if self.aux is None:
            raise ValueError(
                "nu=None requires a predicted variance, but the denoiser predicts none; give a number, or a network "
                "with a learned variance (parametrization LearnedVariance)"
            )
        return self.aux

    @cached_property
    def score(self) -> Tensor:
        """The score ``-eps / sigma`` with shape (B, *event)."""
        return -self.eps / self.sigma

    @cached_property
    def v(self) -> Tensor:
        """The v of Salimans and Ho, ``alpha eps - sigma x0``, with shape (B, *event)."""
        return self.alpha * self.eps - self.sigma * self.x0
