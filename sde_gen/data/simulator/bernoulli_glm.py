"""A generalized linear model of spikes."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sde_gen.data.simulator.base import Simulator
from sde_gen.data.simulator.prior import NormalPrior

DEGREES, PROPOSALS = 10.0, 20
"""Degrees of freedom of the proposals of importance resampling, and proposals per draw."""


@dataclass(frozen=True, kw_only=True)
class BernoulliGLM(Simulator):
    r"""Spikes of a neuron given white noise, summarized by their sufficient statistics.

    .. math::
        z_i \sim \mathrm{Bernoulli}(\mathrm{sigmoid}(V \theta)_i), \qquad x = V^T z

    A row of V is one and the last nine values of the stimulus. The first parameter, the bias, is N(0, 2), the others
    form a smooth filter, :math:`N(0, (F^T F)^{-1})` with :math:`F_{i,i-2} = 1, F_{i,i-1} = -2,
    F_{i,i} = 1 + \sqrt{(i - 1) / 9}`.

    Source: Goncalves et al., 2020; Lueckmann et al., 2021, arXiv:2101.04653, appendix T.5; with another stimulus, drawn
    by a fixed seed.

    Arguments:
        length: number of time bins.
        stimulus_seed: seed of the stimulus.

    Raises:
        ValueError: the length is not positive.
    """

    length: int = 100
    stimulus_seed: int = 0

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"length={self.length} must be positive")

    @cached_property
    def design(self) -> Tensor:
        """Matrix V, float64 with shape (length, 10)."""
        stimulus = np.random.default_rng(self.stimulus_seed).standard_normal(self.length)
        padded = torch.from_numpy(np.concatenate([np.zeros(8), stimulus]))
        return torch.cat(
            [torch.ones(self.length, 1, dtype=torch.float64), padded.unfold(0, 9, 1).flip(1)], dim=1
        )

    @cached_property
    def prior(self) -> NormalPrior:
        """Bias N(0, 2) and a smooth filter."""
        i = torch.arange(9, dtype=torch.float64)
        f = torch.diag(1 + torch.sqrt(i / 9))
        f += torch.diag(torch.full((8,), -2.0, dtype=torch.float64), -1)
        f += torch.diag(torch.ones(7, dtype=torch.float64), -2)
        cov = torch.zeros(10, 10, dtype=torch.float64)
        cov[0, 0] = 2.0
        cov[1:, 1:] = torch.linalg.inv(f.mT @ f)
        return NormalPrior(torch.zeros(10), (cov + cov.mT) / 2)

    def simulate(self, theta: Tensor, rng: np.random.Generator) -> Tensor:
        """Draw the spikes and return their statistics V^T z with shape (N, 10)."""
        rate = torch.sigmoid(theta @ self.design.mT)
        spikes = torch.from_numpy(rng.random(tuple(rate.shape))) < rate
        return spikes.double() @ self.design

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        r"""Return :math:`\theta^T x - \sum_i \log(1 + e^{(V \theta)_i})`, up to a function of x."""
        return (theta * x).sum(1) - F.softplus(theta @ self.design.mT).sum(1)

    def posterior(self, x: Tensor, count: int, rng: np.random.Generator) -> Tensor:
        """Draw by importance resampling without replacement from a t distribution at the mode.

        The posterior is log-concave; its mode is found by Newton's method, and scale and location of the proposals are
        those of Laplace's approximation.
        """
        mode, root = self._laplace(x)
        n, dim = PROPOSALS * count, self.prior.dim
        z = torch.from_numpy(rng.standard_normal((n, dim)))
        scale = torch.from_numpy(np.sqrt(DEGREES / rng.chisquare(DEGREES, n)))
        z = z * scale[:, None]
        theta = mode + z @ root.mT
        log_q = -0.5 * (DEGREES + dim) * torch.log1p((z**2).sum(1) / DEGREES)
        log_w = self.log_likelihood(theta, x) + self.prior.log_prob(theta) - log_q
        gumbel = torch.from_numpy(
            rng.gumbel(size=n)
        )  # the largest log w + Gumbel: a draw without replacement
        return theta[torch.topk(log_w + gumbel, count).indices][torch.from_numpy(rng.permutation(count))]

    def _laplace(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mode and a root of the inverse Hessian of the negative log-posterior there."""
        precision, theta = torch.linalg.inv(self.prior.cov), torch.zeros(10, dtype=torch.float64)
        for _ in range(100):
            rate = torch.sigmoid(self.design @ theta)
            gradient = x - self.design.mT @ rate - precision @ theta
            hessian = self.design.mT @ ((rate * (1 - rate))[:, None] * self.design) + precision
            step = torch.linalg.solve(hessian, gradient)
            theta = theta + step / max(1.0, float(step.norm()))
            if float(step.norm()) < 1e-9:
                break
        return theta, torch.linalg.cholesky(torch.linalg.inv(hessian))
