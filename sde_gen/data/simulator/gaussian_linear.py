"""A Gaussian with unknown mean."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sde_gen.data.simulator.base import Simulator
from sde_gen.data.simulator.prior import NormalPrior


@dataclass(frozen=True, kw_only=True)
class GaussianLinear(Simulator):
    r"""Gaussian with unknown mean and a Gaussian prior.

    .. math::
        \theta \sim N(0, a I), \qquad x \sim N(\theta, b I), \qquad
        \theta | x \sim N\left(\frac{a}{a + b} x, \frac{a b}{a + b} I\right)

    Source: Lueckmann et al., 2021, arXiv:2101.04653, appendix T.1 (a = b = 0.1, ten dimensions).

    Arguments:
        dim: number of parameters and of observed numbers.
        prior_variance: variance a.
        noise_variance: variance b.

    Raises:
        ValueError: a number is not positive.
    """

    dim: int = 10
    prior_variance: float = 0.1
    noise_variance: float = 0.1

    def __post_init__(self) -> None:
        if min(self.dim, self.prior_variance, self.noise_variance) <= 0:
            raise ValueError(
                f"dim={self.dim}, prior_variance={self.prior_variance}, noise_variance={self.noise_variance}: all must "
                "be positive"
            )

    @property
    def prior(self) -> NormalPrior:
        """Gaussian N(0, a I)."""
        eye = torch.eye(self.dim, dtype=torch.float64)
        return NormalPrior(torch.zeros(self.dim), self.prior_variance * eye)

    def simulate(self, theta: Tensor, rng: np.random.Generator) -> Tensor:
        """Return theta plus Gaussian noise."""
        noise = torch.from_numpy(rng.standard_normal(tuple(theta.shape)))
        return theta + math.sqrt(self.noise_variance) * noise

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        """Return log N(x; theta, b I)."""
        b = self.noise_variance
        return -0.5 * ((x - theta) ** 2 / b + math.log(2 * math.pi * b)).sum(1)

    def posterior(self, x: Tensor, count: int, rng: np.random.Generator) -> Tensor:
        """Draw from the Gaussian posterior."""
        a, b = self.prior_variance, self.noise_variance
        noise = torch.from_numpy(rng.standard_normal((count, self.dim)))
        return a / (a + b) * x + math.sqrt(a * b / (a + b)) * noise
