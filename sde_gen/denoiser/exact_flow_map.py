"""The exact flow map of a Gaussian."""

import torch
from torch import Tensor

from sde_gen.denoiser.exact import GaussianDenoiser
from sde_gen.denoiser.prediction import Prediction
from sde_gen.utils.broadcasting import broadcast_like, times


class GaussianFlowMap(GaussianDenoiser):
    r"""The exact denoiser of a Gaussian, and its exact flow map, which is affine.

    On an axis of the covariance with the variance c, and with :math:`D^2 = \alpha^2 c + \sigma^2`, the probability flow
    keeps :math:`z = (x_t - \alpha_t \mu) / D_t`. The chord from t to s is therefore

    .. math::
        \hat\epsilon = \frac{\sigma_t \alpha_s + \sigma_s \alpha_t}{D_t \alpha_s + D_s \alpha_t}\, z, \qquad
        \hat{x}_0 = \mu + \frac{\alpha_t \alpha_s c + D_t D_s - \sigma_t \sigma_s}{D_t \alpha_s + D_s \alpha_t}\, z,

    without the difference of two times in the denominator.

    Arguments:
        sde: the process.
        mean: mean with shape (*event,).
        cov: covariance of the flattened event with shape (D, D).
    """

    def chord(self, x_t: Tensor, t: Tensor | float, s: Tensor | float, **cond: Tensor) -> Prediction:
        """Return the exact chord from t to s, computed in float64."""
        del cond
        marginal = self.sde.marginal(times(t))
        (alpha, sigma), (alpha_s, sigma_s) = (
            (part.reshape(-1, 1).to(self.means.device) for part in pair)
            for pair in (marginal, self.sde.marginal(times(s)))
        )
        mean, variance, axes = self.means[0], self.variances[0], self.axes[0]
        d, d_s = (torch.sqrt(a**2 * variance + b**2) for a, b in ((alpha, sigma), (alpha_s, sigma_s)))
        z = (x_t.double().flatten(1) - alpha * mean) @ axes / d
        base = d * alpha_s + d_s * alpha
        pure = base == 0  # both times at the end of a process without signal there: the limit of equal times
        base = torch.where(pure, 1.0, base)
        eps = torch.where(pure, sigma / d, (sigma * alpha_s + sigma_s * alpha) / base) * z @ axes.mT
        x0 = mean + (alpha * alpha_s * variance + d * d_s - sigma * sigma_s) / base * z @ axes.mT
        return Prediction(
            x_t,
            x0.reshape(x_t.shape).to(x_t.dtype),
            eps.reshape(x_t.shape).to(x_t.dtype),
            broadcast_like(marginal.alpha, x_t),
            broadcast_like(marginal.sigma, x_t),
        )
