"""Velocity prediction, the output of flow matching."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen._tensor import like
from sde_gen.parametrization.base import Parametrization
from sde_gen.parametrization.label import Label, Time
from sde_gen.prediction import Prediction
from sde_gen.sde.base import SDE, Marginal


@dataclass(frozen=True, kw_only=True)
class Velocity(Parametrization):
    r"""The network predicts the velocity of the probability flow, ``u = alpha' x0 + sigma' eps``.

    Solved together with ``x_t = alpha x0 + sigma eps``:

    .. math::
        x_0 = \frac{\sigma u - \sigma' x_t}{\alpha' \sigma - \sigma' \alpha}, \qquad
        \epsilon = \frac{\alpha' x_t - \alpha u}{\alpha' \sigma - \sigma' \alpha} .

    Source: Lipman et al., 2023, arXiv:2210.02747, eq. 8 and 15, with their time reversed.

    Arguments:
        sde: the process whose velocity it is.
        label: the noise label given to the network.
    """

    sde: SDE
    label: Label = Time(scale=1.0)

    def inputs(self, x_t: Tensor, marginal: Marginal, t: Tensor) -> tuple[Tensor, Tensor]:
        """The sample as it is, and its label."""
        return x_t, self.label(marginal, t)

    def predict(self, out: Tensor, x_t: Tensor, marginal: Marginal) -> Prediction:
        """Solve the two linear equations for (x0, eps)."""
        alpha_dot, sigma_dot = self._dots(marginal)
        determinant = alpha_dot * marginal.sigma - sigma_dot * marginal.alpha
        x0 = like(marginal.sigma / determinant, x_t) * out - like(sigma_dot / determinant, x_t) * x_t
        eps = like(alpha_dot / determinant, x_t) * x_t - like(marginal.alpha / determinant, x_t) * out
        return Prediction(x_t, x0, eps, like(marginal.alpha, x_t), like(marginal.sigma, x_t))

    def target(self, x0: Tensor, eps: Tensor, marginal: Marginal) -> Tensor:
        """The velocity of the path from x0 to eps."""
        alpha_dot, sigma_dot = self._dots(marginal)
        return like(alpha_dot, x0) * x0 + like(sigma_dot, x0) * eps

    def _dots(self, marginal: Marginal) -> tuple[Tensor, Tensor]:
        t = self.sde.t_from_log_snr(2 * (torch.log(marginal.alpha) - torch.log(marginal.sigma)))
        return self.sde.alpha_dot(t), self.sde.sigma_dot(t)
