"""A mixture of a wide and a narrow Gaussian with common unknown mean."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sde_gen.data.simulator.base import Simulator
from sde_gen.data.simulator.prior import UniformPrior

WIDE, NARROW = 1.0, 0.1
"""Standard deviations of the two components."""


@dataclass(frozen=True, kw_only=True)
class GaussianMixture(Simulator):
    r"""Mixture of two Gaussians with common mean theta.

    .. math::
        \theta \sim U([-10, 10]^2), \qquad x \sim \tfrac12 N(\theta, I) + \tfrac12 N(\theta, 0.01 I)

    The posterior is the same mixture with mean x, restricted to the box.

    Source: Sisson et al., 2007; Lueckmann et al., 2021, arXiv:2101.04653, appendix T.7.
    """

    @property
    def prior(self) -> UniformPrior:
        """Uniform distribution on [-10, 10]^2."""
        return UniformPrior([-10.0, -10.0], [10.0, 10.0])

    def simulate(self, theta: Tensor, rng: np.random.Generator) -> Tensor:
        """Add noise of one of the components."""
        return theta + _noise(len(theta), rng)

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        """Return the logarithm of the mixture density."""
        squares = ((x - theta) ** 2).sum(1)
        parts = [-0.5 * squares / s**2 - math.log(2 * math.pi * s**2) for s in (WIDE, NARROW)]
        return torch.logsumexp(torch.stack(parts), 0) - math.log(2)

    def posterior(self, x: Tensor, count: int, rng: np.random.Generator) -> Tensor:
        """Draw x + noise until enough draws lie in the box: noise is symmetric, and the prior constant there."""
        found, prior = torch.empty(0, 2, dtype=torch.float64), self.prior
        while len(found) < count:
            theta = x + _noise(2 * count, rng)
            found = torch.cat([found, theta[prior.contains(theta)]])
        return found[:count]


def _noise(count: int, rng: np.random.Generator) -> Tensor:
    scale = torch.where(torch.from_numpy(rng.random((count, 1)) < 0.5), WIDE, NARROW)
    return scale * torch.from_numpy(rng.standard_normal((count, 2)))
