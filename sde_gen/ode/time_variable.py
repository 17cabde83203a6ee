"""Time variables of the probability flow, with the scalings of the samples that suit them."""

import abc
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sde_gen.sde.base import SDE
from sde_gen.utils.arguments import Checked


class FlowCoefficients(NamedTuple):
    """The flow at a time: ``y = x / scale``, ``dy/du = x0 hat x_0 + eps hat eps``; float64 with the shape of t."""

    scale: Tensor
    x0: Tensor
    eps: Tensor


class TimeVariable(Checked, abc.ABC):
    """A monotone variable u in place of time, in which steps are taken."""

    @abc.abstractmethod
    def from_time(self, t: Tensor) -> Tensor:
        """Return the variable at times."""

    @abc.abstractmethod
    def to_time(self, u: Tensor) -> Tensor:
        """Return the times at which the variable is u."""


@dataclass(frozen=True)
class Identity(TimeVariable):
    """The identity, u = t."""

    def from_time(self, t: Tensor) -> Tensor:
        """Return the argument unchanged, as u = t."""
        return t

    def to_time(self, u: Tensor) -> Tensor:
        """Return the argument unchanged, as u = t."""
        return u


@dataclass(frozen=True)
class FlowVariable(TimeVariable):
    """A variable of integration and the probability flow expressed in it.

    Arguments:
        sde: the process.
    """

    sde: SDE

    @abc.abstractmethod
    def coefficients(self, t: Tensor) -> FlowCoefficients:
        """Return the scale of x and the coefficients of the slope at the times t."""


@dataclass(frozen=True)
class DiffusionTime(Identity, FlowVariable):
    r"""Time itself: ``dx/dt = alpha' x_0 + sigma' eps``."""

    def coefficients(self, t: Tensor) -> FlowCoefficients:
        """Return scale 1 and the derivatives of alpha and sigma."""
        return FlowCoefficients(torch.ones_like(t), self.sde.alpha_dot(t), self.sde.sigma_dot(t))


@dataclass(frozen=True)
class AngleVariable(FlowVariable):
    r"""The angle of the linear path, the same for every process.

    With m the ratio ``middle``,

    .. math::
        y = \frac{x}{\alpha + \sigma / m}, \qquad \tan^2 u = \frac{\sigma}{m\, \alpha}, \qquad
        \frac{dy}{du} = \sin 2u\, (m\, \hat\epsilon - \hat{x}_0) .

    y is in units of the data from end to end. No derivative of alpha and sigma is needed, so the smoothness of the
    noise schedule does not matter, and the slope is smooth up to pure noise, where u = pi / 2.
    :class:`~sde_gen.solver.StraightAdams` describes it in detail, with m y for y.

    Arguments:
        middle: the ratio m = sigma / alpha in the middle of the path.
    """

    middle: float

    def from_time(self, t: Tensor) -> Tensor:
        """Return ``arctan sqrt(sigma / (m alpha))``."""
        alpha, sigma = self.sde.marginal(t)
        return torch.atan2(sigma.sqrt(), (self.middle * alpha).sqrt())

    def to_time(self, u: Tensor) -> Tensor:
        """Return the time at which ``sigma / alpha = m tan^2 u``."""
        return self.sde.t_from_log_snr(-2 * math.log(self.middle) - 4 * torch.log(torch.tan(u)))

    def coefficients(self, t: Tensor) -> FlowCoefficients:
        """Return ``alpha + sigma / m``, ``-sin 2u`` and ``m sin 2u``."""
        alpha, sigma = self.sde.marginal(t)
        noise = sigma / self.middle
        scale = alpha + noise
        sine = 2 * torch.sqrt(alpha * noise) / scale
        return FlowCoefficients(scale, -sine, self.middle * sine)


@dataclass(frozen=True)
class HalfLogSNR(TimeVariable):
    """``lam = log(alpha / sigma)``, the variable of exponential integrators.

    Arguments:
        sde: the process.
    """

    sde: SDE

    def from_time(self, t: Tensor) -> Tensor:
        """Return half of the log-SNR."""
        return 0.5 * self.sde.log_snr(t)

    def to_time(self, u: Tensor) -> Tensor:
        """Return the time at which ``log_snr = 2 lam``."""
        return self.sde.t_from_log_snr(2 * u)
