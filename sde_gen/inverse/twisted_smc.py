"""Twisted sequential Monte Carlo: posterior samples that are exact in the limit of many particles."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.inverse.operator.base import Operator
from sde_gen.noise import Noise
from sde_gen.solver._validation import require_descent
from sde_gen.solver.base import StepSolver
from sde_gen.utils.broadcasting import broadcast_like, sum_event


class Particles(NamedTuple):
    """State of the particles at a time.

    Arguments:
        x0: predicted clean samples with shape (B, *event).
        twist: log-twists with shape (B,).
        gradient: their gradients by x_t with shape (B, *event).
        log_weights: accumulated log-weights with shape (B,).
        weights: weights with sum 1 by which the last step resampled, with shape (B,).
    """

    x0: Tensor
    twist: Tensor
    gradient: Tensor
    log_weights: Tensor
    weights: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class TwistedSMC(StepSolver[Particles]):
    r"""Guided ancestral sampling of many particles with importance weights and resampling.

    The batch is the particles of one posterior p(x_0 | y), with y = A(x_0) + noise. The measurement's likelihood
    given x_t is guessed by the twist

    .. math::
        \psi_t(x_t) = N(y; A(\hat{x}_0(x_t)), (\mathrm{noise\_std}^2 + \gamma\, r_t^2) I), \qquad
        r_t^2 = \frac{\sigma^2}{\alpha^2 + \sigma^2},

    whose gradient shifts the mean of the ancestral step, and importance weights correct its error:

    .. math::
        \log w_s = \log \psi_s(x_s) - \log \psi_t(x_t) + \log \frac{N(x_s; m, \mathrm{std}^2)}
        {N(x_s; m + \mathrm{shift}, \mathrm{std}^2)} .

    For any twist, the weighted particles converge to the posterior of the unguided ancestral sampler as their number
    grows. Particles are resampled systematically after every step.

    Source: Wu et al., 2023, arXiv:2306.17775, algorithm 1.

    Arguments:
        operator: A, differentiable.
        y: the measurement with shape (1, *measurement).
        noise_std: standard deviation of its noise, in model space.
        gamma: weight of the uncertainty of x_0 given x_t in the twist.

    Raises:
        ValueError: a number is out of its range.
    """

    operator: Operator
    y: Tensor
    noise_std: float
    gamma: float = 1.0
    order: ClassVar[int] = 0
    stochastic: ClassVar[bool] = True
    pathwise: ClassVar[bool] = False
    batch_coupled: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.noise_std > 0:
            raise ValueError(
                f"noise_std={self.noise_std} must be positive; give a small one for exact measurements"
            )
        if not self.gamma >= 0:
            raise ValueError(f"gamma={self.gamma} must not be negative")
        if len(self.y) != 1:
            raise ValueError(
                f"y has shape {tuple(self.y.shape)}: the particles share one measurement (1, ...)"
            )

    def check(self, model: Denoiser, times: Tensor) -> None:
        """Raise ValueError for ascending times and for a start without signal."""
        require_descent(type(self).__name__, times)
        if float(model.sde.alpha(times[0])) == 0:
            raise ValueError(
                f"alpha of {type(model.sde).__name__} is zero at the first time, where the twist has no gradient: "
                "give the grid a t_max below 1, such as 0.999"
            )

    def init(self, model: Denoiser, x: Tensor, times: Tensor) -> Particles:
        """Compute the weights of the particles of the prior."""
        start = self._evaluate_twist(model, x, times[0])
        return start._replace(log_weights=start.twist)

    def resampling_weights(self, state: Particles) -> Tensor:
        """Return the weights by which the last step resampled."""
        return state.weights

    def step(
        self, model: Denoiser, x_t: Tensor, t: Tensor, s: Tensor, state: Particles, noise: Noise
    ) -> tuple[Tensor, Particles]:
        """Propagate the particles by the twisted proposal, compute their weights and resample them."""
        c_t, c_0, std = model.sde.posterior(t, s)
        alpha, sigma = model.sde.marginal(t)
        mean = broadcast_like(c_t, x_t) * x_t + broadcast_like(c_0, x_t) * state.x0
        shift = broadcast_like(c_0 * sigma**2 / alpha, x_t) * state.gradient
        z = noise(x_t, float(t), float(s))
        x_s = mean + shift + broadcast_like(std, x_t) * z
        correction = sum_event(shift * (0.5 * shift + broadcast_like(std, x_t) * z)) / std.to(x_t) ** 2
        new = self._evaluate_twist(model, x_s, s)
        weight = state.log_weights + new.twist - state.twist - correction
        weights = torch.softmax(weight, 0)
        chosen = systematic(weights, float(noise.uniform(x_t)[0]))
        return x_s[chosen], Particles(*(part[chosen] for part in new))._replace(weights=weights)

    def nfe(self, steps: int) -> int:
        """Return the number of evaluations, one per step and one of the initial particles."""
        return steps + 1

    def _evaluate_twist(self, model: Denoiser, x_t: Tensor, t: Tensor) -> Particles:
        """Predict x_0, and evaluate the twist and its gradient."""
        alpha, sigma = model.sde.marginal(t)
        variance = (self.noise_std**2 + self.gamma * sigma**2 / (alpha**2 + sigma**2)).to(x_t)
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            x0 = model(x, t).x0
            error = sum_event((self.y.to(x) - self.operator(x0)) ** 2)
            twist = -0.5 * (error / variance + self.y.numel() * torch.log(variance))
            (gradient,) = torch.autograd.grad(twist.sum(), x)
        zero = torch.zeros_like(twist)
        return Particles(x0.detach(), twist.detach(), gradient, log_weights=zero, weights=zero)


def systematic(weights: Tensor, u: float) -> Tensor:
    """Choose indices so that one of weight w is chosen B w times, rounded up or down.

    Source: Kitagawa, 1996, Journal of Computational and Graphical Statistics 5, 1.

    Arguments:
        weights: positive weights with sum 1 and shape (B,).
        u: a uniform number in [0, 1).
    """
    places = (torch.arange(len(weights), device=weights.device) + u) / len(weights)
    return torch.searchsorted(weights.double().cumsum(0), places.double()).clamp(max=len(weights) - 1)
