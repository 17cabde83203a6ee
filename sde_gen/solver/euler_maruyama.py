"""Euler-Maruyama on the reverse-time SDE."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.sde.base import SDE
from sde_gen.solver._linear import LinearStepCoefficients, ReverseSDESolver
from sde_gen.solver._validation import require_descent, require_finite_diffusion


@dataclass(frozen=True, kw_only=True)
class EulerMaruyama(ReverseSDESolver):
    r"""Euler-Maruyama on the reverse-time SDE of strength eta.

    .. math::
        x_s = x_t + (s - t) \left[\alpha' \hat{x}_0 + \sigma' \hat\epsilon
            + \tfrac{\eta^2}{2} \frac{g^2}{\sigma} \hat\epsilon\right] + \eta\, g(t) \sqrt{t - s}\, z

    The bracket is :math:`f x_t - \tfrac{1 + \eta^2}{2} g^2 \nabla \log p_t`, written with what stays finite.
    Weak order 1, and strong order 1 as well: the noise does not depend on x.

    Source: Song et al., 2021, arXiv:2011.13456, section 4.1 and appendix E.

    Arguments:
        eta: 0 is Euler on the probability flow, 1 the reverse of the forward process.

    Raises:
        ValueError: eta is negative or not finite.
    """

    def check(self, model: Denoiser, times: Tensor) -> None:
        """With noise, raise an error for ascending times and a start where g is infinite; the flow is finite there."""
        if self.eta > 0:
            require_descent(type(self).__name__, times)
            require_finite_diffusion(type(self).__name__, model, times[0])

    def coefficients(self, sde: SDE, t: Tensor, s: Tensor) -> LinearStepCoefficients:
        """Coefficients of all steps."""
        h, alpha_dot, sigma_dot = s - t, sde.alpha_dot(t), sde.sigma_dot(t)
        if self.eta == 0:
            return LinearStepCoefficients(x0=h * alpha_dot, eps=h * sigma_dot)
        g = sde.diffusion(t)
        eps = sigma_dot + 0.5 * self.eta**2 * g**2 / sde.sigma(t)
        return LinearStepCoefficients(x0=h * alpha_dot, eps=h * eps, noise=self.eta * g * torch.sqrt(-h))
