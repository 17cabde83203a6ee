"""Diffusion posterior sampling (DPS)."""

from dataclasses import replace

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.denoiser.prediction import Prediction
from sde_gen.inverse.operator.base import Operator
from sde_gen.inverse.posterior import require_signal
from sde_gen.utils.broadcasting import broadcast, broadcast_like, select_rows, sum_event


class DPS(Denoiser):
    r"""Add the gradient of the measurement's likelihood at the predicted clean sample to the score.

    .. math::
        \nabla \log p_t(x | y) \approx \nabla \log p_t(x) - \nabla_x \frac{|y - A(\hat{x}_0(x))|^2}{2 v}, \qquad
        v = \mathrm{noise\_std}^2 + \gamma \frac{\sigma^2}{\alpha^2}

    gamma = 0 ignores the uncertainty of x_0 given x_t; gamma > 0 includes it. A may be any differentiable function.
    Costs one derivative of the network and of A per evaluation, and a further product with A.

    Where v is far below the variance of A(x_0) given x_t, the gradient step of x_0 is many times too long, and sampling
    diverges unless its steps are many times shorter. So the gradient of every sample is multiplied by a factor of at
    most 1, which limits the step of x_0 to the best fit to the measurement along its direction. With
    :math:`e = y - A(\hat{x}_0)` and the change d of A(x_0) by the full step, the factor is

    .. math::
        \min\left(1, \max\left(0, \frac{e \cdot d}{d \cdot d}\right)\right) .

    It is 1 where v is exact.

    Sources: Chung et al., 2023, arXiv:2209.14687, eq. 11 and 15 (their steps are scaled by the residual's norm, after
    the fact; here the strength is the likelihood's own); gamma: Rozet and Louppe, 2023, arXiv:2306.10574, eq. 12.

    Arguments:
        denoiser: the model.
        operator: A, linear or not.
        y: measurement with shape (B, *measurement), or (1, *measurement) for all samples.
        noise_std: standard deviation of the measurement's noise, in model space.
        gamma: variance of the measured x_0 given x_t, in units of (sigma / alpha)^2.

    Raises:
        ValueError: noise_std or gamma is out of its range; or, when called, alpha is zero.
    """

    def __init__(
        self, *, denoiser: Denoiser, operator: Operator, y: Tensor, noise_std: float, gamma: float = 0.1
    ) -> None:
        super().__init__()
        if not noise_std > 0:
            raise ValueError(
                f"noise_std={noise_std} must be positive; give a small one for exact measurements"
            )
        if not gamma >= 0:
            raise ValueError(f"gamma={gamma} must not be negative")
        self.denoiser = denoiser
        self.sde = denoiser.sde
        self.operator = operator
        self.noise_std = noise_std
        self.gamma = gamma
        self.y: Tensor
        self.register_buffer("y", y)

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
        """Predict with the gradient added."""
        alpha, sigma = self.sde.marginal(t)
        require_signal(type(self.sde).__name__, alpha, type(self).__name__)
        variance = (self.noise_std**2 + self.gamma * (sigma / alpha) ** 2).to(x_t)
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            prediction = self.denoiser(x, t, **cond)
            error = self.y.to(x_t) - self.operator(prediction.x0)
            (gradient,) = torch.autograd.grad(-0.5 * (sum_event(error**2) / variance).sum(), x)
        x0, error = prediction.x0.detach(), error.detach()
        change = self.operator(x0 + broadcast_like(sigma**2 / alpha, x_t) * gradient) - self.y.to(x_t) + error
        tiny = torch.finfo(x_t.dtype).tiny  # no change, where the measurement is met
        best = sum_event(error * change) / sum_event(change**2).clamp(min=tiny)
        gradient = broadcast(best.clamp(0, 1), gradient) * gradient
        return replace(
            prediction,
            x_t=x_t,
            x0=x0 + broadcast_like(sigma**2 / alpha, x_t) * gradient,
            eps=prediction.eps.detach() - broadcast_like(sigma, x_t) * gradient,
        )

    def select(self, index: Tensor, count: int) -> Denoiser:
        """Take the measurements of these samples."""
        return self.replace_modules(
            denoiser=self.denoiser.select(index, count), y=select_rows(self.y, index, count)
        )
