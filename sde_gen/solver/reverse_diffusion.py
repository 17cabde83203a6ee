"""Reverse diffusion sampling: the reverse SDE in the steps of the forward chain."""

from dataclasses import dataclass

from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.sde.base import SDE
from sde_gen.solver._linear import LinearStepCoefficients, ReverseSDESolver
from sde_gen.solver._validation import require_descent, require_finite_diffusion


@dataclass(frozen=True, kw_only=True)
class ReverseDiffusion(ReverseSDESolver):
    r"""Discretize the reverse SDE as the forward process is discretized.

    The forward chain is x_t = x_s + f_t(x_s) + G_t eps. Ours is the exact transition q(x_t | x_s), so
    f_t(x) = (scale - 1) x and G_t = std, which is the chain of SMLD on VE and that of DDPM on VP:

    .. math::
        x_s = x_t - f_t(x_t) + \tfrac{1 + \eta^2}{2} G_t^2 \nabla \log p_t(x_t) + \eta\, G_t\, \epsilon .

    f and G are exact integrals over the step; the score is constant at its value in t, and f is applied to x_t in place
    of x_s. Weak order 1; unlike Euler-Maruyama the steps do not use f(t) or g(t) alone.

    Source: Song et al., 2021, arXiv:2011.13456, eq. 46 and appendix E; eta = 0 is their eq. 47 for the
    probability flow, the family in between that of :class:`~sde_gen.denoiser.ReverseSDE`.

    Arguments:
        eta: 0 is a first-order step on the probability flow, 1 the paper's sampler.

    Raises:
        ValueError: eta is negative or not finite.
    """

    def check(self, model: Denoiser, times: Tensor) -> None:
        """Raise an error for ascending times, and where alpha is zero: x_t and the score do not determine x_s there."""
        require_descent(type(self).__name__, times)
        require_finite_diffusion(type(self).__name__, model, times[0])

    def coefficients(self, sde: SDE, t: Tensor, s: Tensor) -> LinearStepCoefficients:
        """Coefficients of all steps, with the score as -eps / sigma."""
        scale, std = sde.transition(s, t)
        eps = -0.5 * (1 + self.eta**2) * std**2 / sde.sigma(t)
        return LinearStepCoefficients(x=2 - scale, eps=eps, noise=self.eta * std)
