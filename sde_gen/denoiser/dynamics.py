"""Vector fields of a denoiser: the probability flow and the reverse-time SDE."""

from dataclasses import dataclass

from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.denoiser.prediction import Prediction
from sde_gen.utils.arguments import Checked
from sde_gen.utils.broadcasting import broadcast_like, times


@dataclass(frozen=True)
class ProbabilityFlow(Checked):
    r"""The ODE whose marginals are those of the process.

    .. math::
        \frac{dx}{dt} = \alpha' \hat{x}_0 + \sigma' \hat{\epsilon}
        \quad = f x - \tfrac{1}{2} g^2 \nabla \log p_t(x)

    The first form is finite where f and g are not (rectified flow at t = 1).

    Source: Song et al., 2021, arXiv:2011.13456, eq. 13.

    Arguments:
        denoiser: the denoiser.
    """

    denoiser: Denoiser

    def __call__(self, x_t: Tensor, t: Tensor | float) -> Tensor:
        """Velocity dx/dt with shape (B, *event) at times of shape () or (B,)."""
        return self.velocity(self.denoiser(x_t, t), t)

    def velocity(self, prediction: Prediction, t: Tensor | float) -> Tensor:
        """Velocity of a prediction already made at time t."""
        sde, t = self.denoiser.sde, times(t).double()
        x0, eps = prediction.x0, prediction.eps
        return broadcast_like(sde.alpha_dot(t), x0) * x0 + broadcast_like(sde.sigma_dot(t), eps) * eps


@dataclass(frozen=True)
class ReverseSDE(Checked):
    r"""The family of reverse-time SDEs with the marginals of the process.

    .. math::
        dx = \left[f x - \tfrac{1 + \eta^2}{2} g^2 \nabla \log p_t(x)\right] dt + \eta\, g\, d\bar{w}

    eta = 0 is the probability flow, eta = 1 is the reverse of the forward process.

    Source: Song et al., 2021, arXiv:2011.13456, eq. 6; the family: Huang et al., 2021, arXiv:2106.02808, eq. 14.

    Arguments:
        denoiser: the denoiser.
        eta: noise level of the reverse process.
    """

    denoiser: Denoiser
    eta: float = 1.0

    def drift(self, x_t: Tensor, t: Tensor | float) -> Tensor:
        """The coefficient of dt (time runs down) with shape (B, *event)."""
        prediction = self.denoiser(x_t, t)
        flow = ProbabilityFlow(self.denoiser).velocity(prediction, t)
        if self.eta == 0:
            return flow  # finite where g is not
        t = times(t).double()
        g2_over_sigma = self.denoiser.sde.diffusion(t) ** 2 / self.denoiser.sde.sigma(t)
        return flow + broadcast_like(0.5 * self.eta**2 * g2_over_sigma, x_t) * prediction.eps

    def diffusion(self, t: Tensor | float) -> Tensor:
        """The coefficient of dw with the shape of t."""
        return self.eta * self.denoiser.sde.diffusion(times(t).double())
