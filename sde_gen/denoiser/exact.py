"""Exact denoisers of Gaussian mixtures."""

import math

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.denoiser.prediction import Prediction
from sde_gen.noise import Noise
from sde_gen.sde.base import SDE, Marginal
from sde_gen.utils.broadcasting import broadcast_like, times
from sde_gen.utils.types import Shape


class MixtureDenoiser(Denoiser):
    r"""The exact denoiser of a mixture of Gaussians with full covariances.

    With data :math:`x_0 \sim \sum_k w_k N(\mu_k, C_k)` the noisy sample has the density

    .. math::
        p_t(x) = \sum_k w_k N(x; \alpha \mu_k, S_k), \qquad S_k = \alpha^2 C_k + \sigma^2 I,

    and with the responsibilities :math:`r_k(x)` and :math:`y_k = S_k^{-1} (x - \alpha \mu_k)`

    .. math::
        E[\epsilon | x] = \sigma \sum_k r_k y_k, \qquad E[x_0 | x] = \sum_k r_k (\mu_k + \alpha C_k y_k) .

    Everything is computed in float64 and returned in the dtype of x.

    Arguments:
        sde: the process.
        means: component means with shape (K, *event).
        covs: component covariances of the flattened event, with shape (K, D, D).
        weights: component weights with shape (K,), positive; normalized here.

    Raises:
        ValueError: shapes do not match, a weight is not positive, or a covariance is not symmetric or has a
            negative eigenvalue.
    """

    def __init__(self, *, sde: SDE, means: Tensor, covs: Tensor, weights: Tensor) -> None:
        super().__init__()
        self.sde = sde
        self.event: Shape = tuple(means.shape[1:])
        flat = means.double().flatten(1)
        components, dim = flat.shape
        if tuple(covs.shape) != (components, dim, dim):
            raise ValueError(
                f"covs has shape {tuple(covs.shape)}; {components} means of {dim} dimensions "
                f"need ({components}, {dim}, {dim})"
            )
        if tuple(weights.shape) != (components,) or not bool((weights > 0).all()):
            raise ValueError(f"weights must be {components} positive numbers, got {weights.tolist()}")
        if not bool(torch.isfinite(flat).all()) or not torch.allclose(covs, covs.mT):
            raise ValueError("means must be finite and covs symmetric, without NaN")
        variances, axes = torch.linalg.eigh(covs.double())
        smallest = float(variances.min())
        if smallest < -1e-9 * float(variances.abs().max()):
            raise ValueError(
                f"covs must be positive semi-definite; the smallest eigenvalue is {smallest:.3g}"
            )
        self.means: Tensor
        self.variances: Tensor
        self.axes: Tensor
        self.log_weights: Tensor
        self.register_buffer("means", flat)
        self.register_buffer("variances", variances.clamp(min=0))  # rounding of a singular covariance
        self.register_buffer("axes", axes)
        self.register_buffer("log_weights", torch.log(weights.double() / weights.double().sum()))

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
        """Return the exact posterior means of x_0 and eps."""
        del cond
        marginal = self.sde.marginal(t)
        alpha, sigma = self._coefficients(marginal)
        z, spread = self._whiten(x_t, alpha, sigma)
        r = torch.softmax(self._log_joint(z, spread), dim=1)
        ry = r.unsqueeze(2) * z / spread
        x0 = r @ self.means + alpha.squeeze(2) * self._back(self.variances * ry)
        eps = sigma.squeeze(2) * self._back(ry)
        return Prediction(
            x_t,
            x0.reshape(x_t.shape).to(x_t.dtype),
            eps.reshape(x_t.shape).to(x_t.dtype),
            broadcast_like(marginal.alpha, x_t),
            broadcast_like(marginal.sigma, x_t),
        )

    def select(self, index: Tensor, count: int) -> Denoiser:
        """Return the denoiser itself, which stores no values per sample."""
        del index, count
        return self

    def log_prob(self, x: Tensor, t: Tensor | float) -> Tensor:
        """Log-density of x_t in nats, float64 with shape (B,)."""
        return torch.logsumexp(self._log_joint_at(x, t), dim=1)

    def responsibilities(self, x: Tensor, t: Tensor | float) -> Tensor:
        """Posterior probabilities of the components, float64 with shape (B, K)."""
        return torch.softmax(self._log_joint_at(x, t), dim=1)

    def sample(self, n: int, *, noise: Noise) -> Tensor:
        """Draw n samples of the data, float64 with shape (n, *event)."""
        x = noise.normal(self.means.new_empty(n, self.means.shape[1]))
        bounds = self.log_weights.exp().cumsum(0)[:-1]  # without the last, 1 up to rounding
        k = torch.searchsorted(bounds, noise.uniform(x), right=True)
        scaled = torch.sqrt(self.variances[k]) * x
        return (self.means[k] + torch.einsum("bd,bed->be", scaled, self.axes[k])).reshape(n, *self.event)

    def _coefficients(self, marginal: Marginal) -> tuple[Tensor, Tensor]:
        alpha, sigma = marginal
        return alpha.reshape(-1, 1, 1).to(self.means.device), sigma.reshape(-1, 1, 1).to(self.means.device)

    def _whiten(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates (B, K, D) of x - alpha mu_k on the axes of C_k, and the variances of S_k there."""
        centered = x.double().flatten(1).unsqueeze(1) - alpha * self.means
        return torch.bmm(centered.transpose(0, 1), self.axes).transpose(
            0, 1
        ), alpha**2 * self.variances + sigma**2

    def _log_joint(self, z: Tensor, spread: Tensor) -> Tensor:
        """Log of w_k N(x; alpha mu_k, S_k) with shape (B, K)."""
        return self.log_weights - 0.5 * (z**2 / spread + torch.log(2 * math.pi * spread)).sum(-1)

    def _log_joint_at(self, x: Tensor, t: Tensor | float) -> Tensor:
        return self._log_joint(*self._whiten(x, *self._coefficients(self.sde.marginal(times(t)))))

    def _back(self, y: Tensor) -> Tensor:
        """Sum over components on their axes, back in x: (B, K, D) -> (B, D)."""
        return y.flatten(1) @ self.axes.mT.flatten(0, 1)


class GaussianDenoiser(MixtureDenoiser):
    """The exact denoiser of a Gaussian.

    Arguments:
        sde: the process.
        mean: mean with shape (*event,).
        cov: covariance of the flattened event with shape (D, D).
    """

    def __init__(self, *, sde: SDE, mean: Tensor, cov: Tensor) -> None:
        super().__init__(sde=sde, means=mean.unsqueeze(0), covs=cov.unsqueeze(0), weights=torch.ones(1))
