"""Abstract base class of processes, defined by two functions of time."""

import abc
import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sde_gen.noise import Noise
from sde_gen.utils import broadcasting
from sde_gen.utils.arguments import Checked
from sde_gen.utils.broadcasting import event_numel, sum_event, times
from sde_gen.utils.types import Shape, TimeFunction


class Marginal(NamedTuple):
    """``x_t = alpha x_0 + sigma eps``; shapes (), (B,) or broadcastable against a batch."""

    alpha: Tensor
    sigma: Tensor


class Transition(NamedTuple):
    """q(x_t | x_s) for s < t: ``x_t = scale x_s + std eps``."""

    scale: Tensor
    std: Tensor


class Posterior(NamedTuple):
    """q(x_s | x_t, x_0) for s < t: ``x_s = c_t x_t + c_0 x_0 + std eps``."""

    c_t: Tensor
    c_0: Tensor
    std: Tensor


@dataclass(frozen=True)
class Prior:
    """The prior N(0, std^2 I) of x_1."""

    std: float

    def sample(
        self,
        shape: Shape,
        *,
        noise: Noise,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Tensor:
        """Draw a batch of the given shape (B, *event)."""
        return self.std * noise.normal(torch.empty(shape, dtype=dtype, device=device))

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density in nats with shape (B,), summed in float64."""
        z = x.double() / self.std
        return -0.5 * sum_event(z * z) - event_numel(x) * (0.5 * math.log(2 * math.pi) + math.log(self.std))


class SDE(Checked, abc.ABC):
    r"""A linear diffusion process dx = f(t) x dt + g(t) dw with f and g functions of time only.

    A process is two functions, :meth:`alpha` and :meth:`sigma`, with

    .. math::
        x_t = \alpha_t x_0 + \sigma_t \epsilon, \qquad
        f = \frac{\alpha'}{\alpha}, \qquad g^2 = 2 \sigma \sigma' - 2 f \sigma^2 .

    Everything else is derived from them, with derivatives by forward-mode automatic differentiation.
    A subclass may override any derived method by a closed form; the contract tests hold the two equal.

    Sources: Song et al., 2021, arXiv:2011.13456; Kingma et al., 2021, arXiv:2107.00630, appendix A
    (transition and posterior from alpha and sigma).

    Attributes:
        t_min: the smallest time at which the denoiser is evaluated; grids end there.

    All methods of time take a tensor of shape () or (B,), best in float64, and return the same shape; a number stands
    for a float64 scalar.
    """

    t_min: float

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        _take_numbers(cls)

    @abc.abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """Return the signal coefficient of q(x_t | x_0) with the shape of t."""

    @abc.abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """Return the noise standard deviation of q(x_t | x_0) with the shape of t."""

    def marginal(self, t: Tensor, like: Tensor | None = None) -> Marginal:
        """Alpha and sigma of q(x_t | x_0), computed in float64.

        Arguments:
            t: times with shape () or (B,).
            like: a batch (B, *event) to broadcast against and whose dtype and device to take;
                coefficients of shape () stay float64 scalars, which multiply any batch.
        """
        t = t.double()
        alpha, sigma = self.alpha(t), self.sigma(t)
        if like is None:
            return Marginal(alpha, sigma)
        return Marginal(broadcasting.broadcast_like(alpha, like), broadcasting.broadcast_like(sigma, like))

    def log_snr(self, t: Tensor) -> Tensor:
        """log(alpha^2 / sigma^2), strictly decreasing in t."""
        return 2 * (torch.log(self.alpha(t)) - torch.log(self.sigma(t)))

    def t_from_log_snr(self, log_snr: Tensor) -> Tensor:
        """Invert :meth:`log_snr` by cutting [0, 1] into 64 parts, 11 times: to the last bit of float64."""
        target = log_snr.double()
        cuts = torch.arange(1, 64, dtype=torch.float64, device=target.device).reshape(-1, *[1] * target.ndim)
        low, part = torch.zeros_like(target), 1.0
        for _ in range(11):
            part /= 64
            edges = low + part * cuts
            too_clean = self.log_snr(edges.flatten()).reshape(edges.shape) > target
            low = low + part * too_clean.sum(0)
        return (low + 0.5 * part).to(log_snr.dtype)

    def alpha_dot(self, t: Tensor) -> Tensor:
        """Time derivative of alpha."""
        return derivative(self.alpha, t)

    def sigma_dot(self, t: Tensor) -> Tensor:
        """Time derivative of sigma."""
        return derivative(self.sigma, t)

    def drift_rate(self, t: Tensor) -> Tensor:
        """The rate f(t) = alpha' / alpha of the drift f(t) x."""
        return derivative(lambda u: torch.log(self.alpha(u)), t)

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        """The drift f(t) x with shape (B, *event)."""
        return broadcasting.broadcast_like(self.drift_rate(t.double()), x) * x

    def diffusion(self, t: Tensor) -> Tensor:
        r"""The diffusion coefficient g(t), from g^2 = -sigma^2 d log_snr / dt."""
        return self.sigma(t) * torch.sqrt(-derivative(self.log_snr, t))

    def transition(self, s: Tensor, t: Tensor) -> Transition:
        r"""The kernel q(x_t | x_s) for s <= t.

        .. math::
            x_t = \frac{\alpha_t}{\alpha_s} x_s + \sigma_t \sqrt{1 - e^{\lambda_t - \lambda_s}}\, \epsilon,
            \qquad \lambda = \log(\alpha^2 / \sigma^2) .
        """
        fresh = -torch.expm1(self.log_snr(t) - self.log_snr(s))
        return Transition(self.alpha(t) / self.alpha(s), self.sigma(t) * torch.sqrt(fresh))

    def posterior(self, t: Tensor, s: Tensor) -> Posterior:
        r"""The bridge q(x_s | x_t, x_0) for s <= t.

        .. math::
            x_s = \frac{\alpha_t}{\alpha_s} \frac{\sigma_s^2}{\sigma_t^2} x_t
                + \alpha_s (1 - e^{\lambda_t - \lambda_s}) x_0
                + \sigma_s \sqrt{1 - e^{\lambda_t - \lambda_s}}\, \epsilon .
        """
        alpha_s, sigma_s = self.alpha(s), self.sigma(s)
        fresh = -torch.expm1(self.log_snr(t) - self.log_snr(s))
        c_t = self.alpha(t) / alpha_s * (sigma_s / self.sigma(t)) ** 2
        return Posterior(c_t, alpha_s * fresh, sigma_s * torch.sqrt(fresh))

    @property
    def prior(self) -> Prior:
        """Prior N(0, sigma(1)^2 I) of the noise at t = 1."""
        return Prior(float(self.sigma(torch.ones((), dtype=torch.float64))))


OF_TIME = (
    "alpha",
    "sigma",
    "marginal",
    "log_snr",
    "t_from_log_snr",
    "alpha_dot",
    "sigma_dot",
    "drift_rate",
    "drift",
    "diffusion",
    "transition",
    "posterior",
)
"""Methods of a process whose positional arguments are times."""


def _take_numbers(cls: type) -> None:
    """Let the methods of time that a class defines take numbers, too."""
    for name in OF_TIME:
        method = vars(cls).get(name)
        if inspect.isfunction(method):  # a field of this name is the user's function
            setattr(cls, name, _of_numbers(method))


def _of_numbers(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def wrapper(self: SDE, *args: Any, **kwargs: Any) -> Any:
        return method(
            self,
            *(times(value) for value in args),
            **{name: value if value is None else times(value) for name, value in kwargs.items()},
        )

    return wrapper


_take_numbers(SDE)


def derivative(function: TimeFunction, t: Tensor) -> Tensor:
    """Differentiate an elementwise function of time by forward-mode automatic differentiation."""
    result: Tensor = torch.func.jvp(function, (t,), (torch.ones_like(t),))[1]
    return result


def check_t_min(t_min: float, *, zero: str = "") -> None:
    """Raise ValueError for a smallest time outside [0, 1).

    Arguments:
        t_min: the smallest time.
        zero: reason why t_min = 0 is excluded; empty if it is allowed.

    Raises:
        ValueError: t_min is not in [0, 1), or is 0 with a reason against it.
    """
    if zero and not 0 < t_min < 1:
        raise ValueError(f"t_min={t_min} must lie strictly between 0 and 1: {zero}")
    if not 0 <= t_min < 1:
        raise ValueError(f"t_min={t_min} must lie in [0, 1)")
