r"""Gaussian posterior denoisers of linear inverse problems.

Given y = A x_0 + n with noise n of standard deviation ``noise_std``, and x_0 given x_t about Gaussian with mean
:math:`\hat{x}_0` and covariance V, the mean given both is

.. math::
    \hat{x}_0 + V A^T (A V A^T + \mathrm{noise\_std}^2 I)^{-1} (y - A \hat{x}_0) .

The methods differ in their products with V; the inverse is computed by conjugate gradients for each sample.
"""

import abc
from dataclasses import replace

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.denoiser.prediction import Prediction
from sde_gen.inverse.operator.base import Operator
from sde_gen.inverse.operator.conjugate_gradients import Map, conjugate_gradients
from sde_gen.utils.broadcasting import broadcast_like, select_rows


class GaussianPosterior(Denoiser):
    """A denoiser given a measurement, by a Gaussian approximation of x_0 given x_t.

    Arguments:
        denoiser: the model.
        operator: A, linear.
        y: measurement with shape (B, *measurement), or (1, *measurement) for all samples.
        noise_std: standard deviation of the measurement's noise, in model space.
        steps: products with A V A^T of the conjugate gradients.

    Raises:
        ValueError: the operator is not linear, or a number is out of its range; or, when called, alpha is zero.
    """

    def __init__(
        self, *, denoiser: Denoiser, operator: Operator, y: Tensor, noise_std: float, steps: int = 20
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if not operator.linear:
            raise ValueError(
                f"{type(operator).__name__} is not linear, as {name} needs; DPS takes any operator"
            )
        if not noise_std > 0:
            raise ValueError(
                f"noise_std={noise_std} must be positive; give a small one for exact measurements"
            )
        if steps < 1:
            raise ValueError(f"steps={steps}: at least one product is needed")
        self.denoiser = denoiser
        self.sde = denoiser.sde
        self.operator = operator
        self.noise_std = noise_std
        self.steps = steps
        self.y: Tensor
        self.register_buffer("y", y)

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
        """Predict given the measurement."""
        prediction, inner, outer = self.covariance(x_t, t, cond)

        def smoothed(u: Tensor) -> Tensor:
            return self.operator(inner(self.operator.adjoint(u, x_t))) + self.noise_std**2 * u

        residual = self.y.to(x_t) - self.operator(prediction.x0)
        u = conjugate_gradients(smoothed, residual, self.steps)
        return prediction.with_x0(prediction.x0 + outer(self.operator.adjoint(u, x_t)))

    def select(self, index: Tensor, count: int) -> Denoiser:
        """Select the measurements of some samples."""
        return self.replace_modules(
            denoiser=self.denoiser.select(index, count), y=select_rows(self.y, index, count)
        )

    @abc.abstractmethod
    def covariance(self, x_t: Tensor, t: Tensor, cond: dict[str, Tensor]) -> tuple[Prediction, Map, Map]:
        """Return the prediction, and products with V inside the inverse and in front of it."""

    def differentiate(self, x_t: Tensor, t: Tensor, cond: dict[str, Tensor]) -> tuple[Prediction, Map]:
        r"""Return the prediction, and products with :math:`(\sigma^2 / \alpha) (d\hat{x}_0 / dx_t)^T`."""
        alpha, sigma = self.sde.marginal(t)
        require_signal(type(self.sde).__name__, alpha, type(self).__name__)
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            prediction = self.denoiser(x, t, **cond)
        gain = broadcast_like(sigma**2 / alpha, x_t)

        def product(v: Tensor) -> Tensor:
            (transposed,) = torch.autograd.grad(prediction.x0, x, v, retain_graph=True)
            return gain * transposed

        values = replace(prediction, x_t=x_t, x0=prediction.x0.detach(), eps=prediction.eps.detach())
        return values, product


def require_signal(sde_name: str, alpha: Tensor, method: str) -> None:
    """Raise ValueError at a time at which alpha is zero.

    Raises:
        ValueError: alpha is zero, where x_t contains no signal.
    """
    if bool((alpha == 0).any()):
        raise ValueError(
            f"alpha of {sde_name} is zero at the first time, where {method} is not defined: "
            "give the grid a t_max below 1, such as 0.999"
        )
