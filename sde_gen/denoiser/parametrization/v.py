"""v prediction of a network."""

from dataclasses import dataclass

from torch import Tensor

from sde_gen.denoiser.parametrization.base import LinearCoefficients, LinearParametrization
from sde_gen.denoiser.parametrization.label import LogSigma, NoiseLabel
from sde_gen.sde.base import Marginal
from sde_gen.utils.broadcasting import broadcast_like


@dataclass(frozen=True, kw_only=True)
class V(LinearParametrization):
    r"""The network predicts ``v = alpha eps - sigma x0``.

    With ``x_t = alpha x0 + sigma eps`` this is a rotation, for any process:

    .. math::
        x_0 = \frac{\alpha x_t - \sigma v}{\alpha^2 + \sigma^2}, \qquad
        \epsilon = \frac{\sigma x_t + \alpha v}{\alpha^2 + \sigma^2} .

    Source: Salimans and Ho, 2022, arXiv:2202.00512, appendix D.

    Arguments:
        label: the noise label given to the network.
    """

    label: NoiseLabel = LogSigma(scale=0.25)

    def linear(self, marginal: Marginal) -> LinearCoefficients:
        """Rotate (x_t, v) back to (x0, eps)."""
        alpha, sigma = marginal
        norm2 = alpha**2 + sigma**2
        return LinearCoefficients(
            x0_x=alpha / norm2, x0_out=-sigma / norm2, eps_x=sigma / norm2, eps_out=alpha / norm2
        )

    def target(self, x0: Tensor, eps: Tensor, marginal: Marginal) -> Tensor:
        """The v of (x0, eps)."""
        return broadcast_like(marginal.alpha, x0) * eps - broadcast_like(marginal.sigma, x0) * x0
