"""Moment-matching posterior sampling (MMPS)."""

from torch import Tensor

from sde_gen.denoiser.prediction import Prediction
from sde_gen.inverse.operator.conjugate_gradients import Map
from sde_gen.inverse.posterior import GaussianPosterior


class MMPS(GaussianPosterior):
    r"""Compute the covariance of x_0 given x_t from the denoiser's derivative.

    .. math::
        V = \mathrm{Cov}[x_0 | x_t] = \frac{\sigma^2}{\alpha} \frac{\partial \hat{x}_0}{\partial x_t}

    This holds for an exact denoiser, so the method is exact for Gaussian data with any covariance and any A. Every
    product costs one derivative of the network, up to ``steps`` + 1 per evaluation.

    Source: Rozet et al., 2024, arXiv:2405.13712, section 4.
    """

    def covariance(self, x_t: Tensor, t: Tensor, cond: dict[str, Tensor]) -> tuple[Prediction, Map, Map]:
        """Return the same products inside the inverse and in front of it."""
        prediction, product = self.differentiate(x_t, t, cond)
        return prediction, product, product
