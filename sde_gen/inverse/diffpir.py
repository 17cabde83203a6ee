"""Denoising diffusion models for plug-and-play image restoration."""

from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.denoiser.prediction import Prediction
from sde_gen.inverse.operator.base import Operator
from sde_gen.inverse.operator.conjugate_gradients import Map
from sde_gen.inverse.posterior import GaussianPosterior
from sde_gen.utils.broadcasting import broadcast_like


class DiffPIR(GaussianPosterior):
    r"""Proximal step from the predicted clean sample towards the measurement.

    .. math::
        \arg\min_{x_0} \frac{|y - A x_0|^2}{\mathrm{noise\_std}^2}
        + \lambda \frac{|x_0 - \hat{x}_0|^2}{(\sigma / \alpha)^2}, \qquad \text{that is }
        V = \frac{\sigma^2}{\lambda \alpha^2} I .

    Needs no derivative of the network. For data N(m, s^2 I) the exact V is 1 / (1 / s^2 + (alpha / sigma)^2) I:
    lambda = 1 is exact at small noise, with sigma far below s, and overweights the measurement at large noise.

    Source: Zhu et al., 2023, arXiv:2305.08995, eq. 12 and 13.

    Arguments:
        denoiser: the model.
        operator: A, linear.
        y: measurement with shape (B, *measurement), or (1, *measurement) for all samples.
        noise_std: standard deviation of the measurement's noise, in model space.
        trust: lambda, how much the prediction is trusted.
        steps: products of the conjugate gradients, which cost no evaluation.

    Raises:
        ValueError: as :class:`MMPS`, or trust is not positive.
    """

    def __init__(
        self,
        *,
        denoiser: Denoiser,
        operator: Operator,
        y: Tensor,
        noise_std: float,
        trust: float = 1.0,
        steps: int = 20,
    ) -> None:
        super().__init__(denoiser=denoiser, operator=operator, y=y, noise_std=noise_std, steps=steps)
        if not trust > 0:
            raise ValueError(f"trust={trust} must be positive: the weight of the prediction")
        self.trust = trust

    def covariance(self, x_t: Tensor, t: Tensor, cond: dict[str, Tensor]) -> tuple[Prediction, Map, Map]:
        """Return products with the isotropic V, inside the inverse and in front of it."""
        alpha, sigma = self.sde.marginal(t)
        ratio = sigma / alpha.clamp(min=1e-6 * sigma)  # practically infinite where alpha is zero
        variance = broadcast_like(ratio**2 / self.trust, x_t)
        return self.denoiser(x_t, t, **cond), lambda v: variance * v, lambda v: variance * v
