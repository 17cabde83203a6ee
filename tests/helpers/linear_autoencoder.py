"""A linear Gaussian autoencoder of vectors, whose bound has a closed form and can be the likelihood itself."""

import torch
from torch import Tensor, nn

from sde_gen.model import Autoencoder, LatentPosterior, Reconstruction


class LinearAutoencoder(Autoencoder):
    """z = A x + c + tau eps and x = W z + b + s eps, of k latents and D numbers.

    W has orthogonal columns, so with :meth:`exact` the posterior of the model is Gaussian with independent dimensions.
    """

    def __init__(self, *, shape=(3,), latents: int = 2, seed: int = 0) -> None:
        super().__init__(shape=tuple(shape), latent=(latents,), noise=(latents,))
        generator = torch.Generator().manual_seed(seed)
        dim = shape[0]
        columns = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64)).Q
        lengths = torch.linspace(0.5, 1.5, latents, dtype=torch.float64)
        self.W = nn.Parameter(columns[:, :latents] * lengths)
        self.b = nn.Parameter(torch.randn(dim, generator=generator, dtype=torch.float64))
        self.A = nn.Parameter(torch.randn(latents, dim, generator=generator, dtype=torch.float64))
        self.c = nn.Parameter(torch.randn(latents, generator=generator, dtype=torch.float64))
        self.log_tau = nn.Parameter(torch.randn(latents, generator=generator, dtype=torch.float64))
        self.log_scale = nn.Parameter(torch.full((dim,), -0.4, dtype=torch.float64))

    def exact(self) -> "LinearAutoencoder":
        """Set the encoder to the posterior of the decoder under N(0, I)."""
        with torch.no_grad():
            precision = torch.eye(len(self.c), dtype=torch.float64) + self.W.T @ self.W / self.variance
            self.A.copy_(torch.linalg.solve(precision, self.W.T / self.variance))
            self.c.copy_(-self.A @ self.b)
            self.log_tau.copy_(-0.5 * torch.log(precision.diagonal()))
        return self

    @property
    def variance(self) -> Tensor:
        """Return s^2, the same for all numbers."""
        return torch.exp(2 * self.log_scale[0])

    def marginal(self) -> torch.distributions.MultivariateNormal:
        """Return the distribution of x under N(0, I)."""
        cov = self.W @ self.W.T + self.variance * torch.eye(len(self.b), dtype=torch.float64)
        return torch.distributions.MultivariateNormal(self.b, cov)

    def encode(self, x: Tensor) -> LatentPosterior:
        """Return the Gaussian of A x + c and tau."""
        mean = x.double() @ self.A.T + self.c
        return LatentPosterior(mean, torch.exp(self.log_tau).expand_as(mean))

    def decode(self, z: Tensor) -> Tensor:
        """Return W z + b."""
        return z.double() @ self.W.T + self.b

    def forward(self, x: Tensor, noise: Tensor) -> Reconstruction:
        """Draw latents and decode."""
        posterior = self.encode(x)
        rate = posterior.kl()
        mean = self.decode(posterior.sample(noise))
        return Reconstruction(mean, self.log_scale, rate, torch.zeros_like(rate))


def cubature(count: int, latents: int) -> Tensor:
    """Return 2 k points with mean 0 and covariance I, exact for quadratic functions, with shape (2 k, count, k)."""
    axes = latents**0.5 * torch.eye(latents, dtype=torch.float64)
    return torch.cat([axes, -axes]).unsqueeze(1).expand(-1, count, -1)
