"""Two crescents in the plane of two parameters."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sde_gen.data.simulator.base import Simulator
from sde_gen.data.simulator.prior import UniformPrior

RADIUS, SPREAD, SHIFT = 0.1, 0.01, 0.25
"""Mean and standard deviation of the radius of a crescent, and its shift."""


@dataclass(frozen=True, kw_only=True)
class TwoMoons(Simulator):
    r"""Crescent whose posterior has two modes.

    .. math::
        \theta \sim U([-1, 1]^2), \qquad
        x = \begin{pmatrix} r \cos a + 0.25 \\ r \sin a \end{pmatrix}
          + \frac{1}{\sqrt 2} \begin{pmatrix} -|\theta_1 + \theta_2| \\ -\theta_1 + \theta_2 \end{pmatrix}, \qquad
        a \sim U(-\pi/2, \pi/2), \quad r \sim N(0.1, 0.01^2)

    Source: Greenberg et al., 2019, arXiv:1905.07488; Lueckmann et al., 2021, arXiv:2101.04653, appendix T.8.
    """

    @property
    def prior(self) -> UniformPrior:
        """Uniform distribution on [-1, 1]^2."""
        return UniformPrior([-1.0, -1.0], [1.0, 1.0])

    def simulate(self, theta: Tensor, rng: np.random.Generator) -> Tensor:
        """Place a point of the crescent."""
        return _crescent(len(theta), rng) + _place(theta)

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        """Return the log-density of the point of the crescent in polar coordinates; that of the radius is N(r)."""
        point = x - _place(theta) - torch.tensor([SHIFT, 0.0], dtype=torch.float64)
        r = point.norm(dim=1)
        log_radius = -0.5 * ((r - RADIUS) / SPREAD) ** 2 - math.log(SPREAD * math.sqrt(2 * math.pi))
        return torch.where(point[:, 0] >= 0, log_radius - torch.log(math.pi * r), -math.inf)

    def posterior(self, x: Tensor, count: int, rng: np.random.Generator) -> Tensor:
        """Subtract a crescent from x and invert the place of theta, which rotates and reflects: a constant density."""
        found, prior = torch.empty(0, 2, dtype=torch.float64), self.prior
        while len(found) < count:
            place = x - _crescent(2 * count, rng)
            sign = torch.where(torch.from_numpy(rng.random(2 * count) < 0.5), 1.0, -1.0)
            total, difference = -sign * place[:, 0], place[:, 1]
            theta = torch.stack([total - difference, total + difference], 1) / math.sqrt(2)
            found = torch.cat([found, theta[(place[:, 0] <= 0) & prior.contains(theta)]])
        return found[:count]


def _place(theta: Tensor) -> Tensor:
    return torch.stack([-(theta[:, 0] + theta[:, 1]).abs(), theta[:, 1] - theta[:, 0]], 1) / math.sqrt(2)


def _crescent(count: int, rng: np.random.Generator) -> Tensor:
    a = torch.from_numpy(rng.uniform(-math.pi / 2, math.pi / 2, count))
    r = torch.from_numpy(rng.normal(RADIUS, SPREAD, count))
    return torch.stack([r * torch.cos(a) + SHIFT, r * torch.sin(a)], 1)
