"""Velocity prediction, the output of flow matching."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.denoiser.parametrization.base import LinearCoefficients, LinearParametrization
from sde_gen.denoiser.parametrization.label import NoiseLabel, Time
from sde_gen.sde.base import SDE, Marginal
from sde_gen.utils.broadcasting import broadcast_like


@dataclass(frozen=True, kw_only=True)
class Velocity(LinearParametrization):
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
    label: NoiseLabel = Time(scale=1.0)

    def linear(self, marginal: Marginal) -> LinearCoefficients:
        """Solve the two linear equations for (x0, eps)."""
        alpha_dot, sigma_dot = self._dots(marginal)
        determinant = alpha_dot * marginal.sigma - sigma_dot * marginal.alpha
        return LinearCoefficients(
            x0_x=-sigma_dot / determinant,
            x0_out=marginal.sigma / determinant,
            eps_x=alpha_dot / determinant,
            eps_out=-marginal.alpha / determinant,
        )

    def target(self, x0: Tensor, eps: Tensor, marginal: Marginal) -> Tensor:
        """The velocity of the path from x0 to eps."""
        alpha_dot, sigma_dot = self._dots(marginal)
        return broadcast_like(alpha_dot, x0) * x0 + broadcast_like(sigma_dot, x0) * eps

    def _dots(self, marginal: Marginal) -> tuple[Tensor, Tensor]:
        t = self.sde.t_from_log_snr(2 * (torch.log(marginal.alpha) - torch.log(marginal.sigma)))
        return self.sde.alpha_dot(t), self.sde.sigma_dot(t)
