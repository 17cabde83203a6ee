"""v prediction."""

from dataclasses import dataclass

from torch import Tensor

from sde_gen._tensor import like
from sde_gen.parametrization.base import Parametrization
from sde_gen.parametrization.label import Label, LogSigma
from sde_gen.prediction import Prediction
from sde_gen.sde.base import Marginal


@dataclass(frozen=True, kw_only=True)
class V(Parametrization):
    r"""The network predicts ``v = alpha eps - sigma x0``.

    With ``x_t = alpha x0 + sigma eps`` this is a rotation, for any process:

    .. math::
        x_0 = \frac{\alpha x_t - \sigma v}{\alpha^2 + \sigma^2}, \qquad
        \epsilon = \frac{\sigma x_t + \alpha v}{\alpha^2 + \sigma^2} .

    Source: Salimans and Ho, 2022, arXiv:2202.00512, appendix D.

    Arguments:
        label: the noise label given to the network.
    """

    label: Label = LogSigma(scale=0.25)

    def inputs(self, x_t: Tensor, marginal: Marginal, t: Tensor) -> tuple[Tensor, Tensor]:
        """The sample as it is, and its label."""
        return x_t, self.label(marginal, t)

    def predict(self, out: Tensor, x_t: Tensor, marginal: Marginal) -> Prediction:
        """Rotate (x_t, v) back to (x0, eps)."""
        alpha, sigma = like(marginal.alpha, x_t), like(marginal.sigma, x_t)
        norm2 = alpha**2 + sigma**2
        x0 = (alpha * x_t - sigma * out) / norm2
        eps = (sigma * x_t + alpha * out) / norm2
        return Prediction(x_t, x0, eps, alpha, sigma)

    def target(self, x0: Tensor, eps: Tensor, marginal: Marginal) -> Tensor:
        """The v of (x0, eps)."""
        return like(marginal.alpha, x0) * eps - like(marginal.sigma, x0) * x0
