"""Simple likelihood, complex posterior: four points of a Gaussian with unknown mean and covariance."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sde_gen.data.simulator.base import Simulator
from sde_gen.data.simulator.prior import UniformPrior

POINTS, BOUND, BATCH = 4, 3.0, 32_768
"""Observed points, half the side of the prior's box, and proposals drawn at a time."""


@dataclass(frozen=True, kw_only=True)
class SLCP(Simulator):
    r"""Four points of a Gaussian in the plane, with five parameters; the posterior has four modes.

    .. math::
        \theta \sim U([-3, 3]^5), \quad x_i \sim N(m, S), \quad m = (\theta_1, \theta_2), \quad
        S = \begin{pmatrix} s_1^2 & \rho s_1 s_2 \\ \rho s_1 s_2 & s_2^2 \end{pmatrix}, \quad
        s_1 = \theta_3^2, \; s_2 = \theta_4^2, \; \rho = \tanh \theta_5

    Source: Papamakarios et al., 2019, arXiv:1805.07226; Lueckmann et al., 2021, arXiv:2101.04653, appendix T.3.
    """

    @property
    def prior(self) -> UniformPrior:
        """Uniform distribution on [-3, 3]^5."""
        return UniformPrior([-BOUND] * 5, [BOUND] * 5)

    def simulate(self, theta: Tensor, rng: np.random.Generator) -> Tensor:
        """Draw the points, with shape (N, 8)."""
        z = torch.from_numpy(rng.standard_normal((len(theta), POINTS, 2)))
        return (theta[:, None, :2] + _colored(z, theta[:, None, 2:])).flatten(1)

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        """Return the log-density of the points."""
        s1, s2, rho = _scales(theta[:, None, 2:])
        u, v = ((x.reshape(-1, POINTS, 2) - theta[:, None, :2]) / torch.stack([s1, s2], -1)).unbind(-1)
        square = (u**2 - 2 * rho * u * v + v**2) / (1 - rho**2)
        log_det = 2 * torch.log(s1) + 2 * torch.log(s2) + torch.log1p(-(rho**2))
        return -0.5 * (square + log_det + 2 * math.log(2 * math.pi)).sum(1)

    def posterior(self, x: Tensor, count: int, rng: np.random.Generator) -> Tensor:
        r"""Draw by rejection, exactly.

        With scatter A and mean :math:`\bar x` of the n points the likelihood is a function of S times a Gaussian of m,

        .. math::
            p(x | m, S) \propto |S|^{-(n - 1)/2} e^{-\mathrm{tr}(S^{-1} A)/2}\; N(m; \bar x, S / n),

        whose first factor is at most that of S = A / (n - 1). So :math:`\theta_3, \theta_4, \theta_5` are proposed by
        the prior and accepted by it, m is drawn from the Gaussian, and draws outside the box are rejected.
        """
        points = x.reshape(POINTS, 2)
        mean = points.mean(0)
        a11, a12, a22 = (
            ((points - mean)[:, i] * (points - mean)[:, j]).sum() for i, j in ((0, 0), (0, 1), (1, 1))
        )
        n = POINTS - 1
        largest = -0.5 * n * torch.log((a11 * a22 - a12**2) / n**2) - n
        found, prior, size = [], self.prior, 0
        while size < count:
            shape = torch.from_numpy(rng.uniform(-BOUND, BOUND, (BATCH, 3)))
            s1, s2, rho = _scales(shape)
            det = s1**2 * s2**2 * (1 - rho**2)
            trace = (s2**2 * a11 - 2 * rho * s1 * s2 * a12 + s1**2 * a22) / det
            log_ratio = -0.5 * n * torch.log(det) - 0.5 * trace - largest
            shape = shape[torch.from_numpy(np.log(rng.random(BATCH))) < log_ratio]
            z = torch.from_numpy(rng.standard_normal((len(shape), 2)))
            theta = torch.cat([mean + _colored(z, shape) / math.sqrt(POINTS), shape], 1)
            found.append(theta[prior.contains(theta)])
            size += len(found[-1])
        return torch.cat(found)[:count]


def _scales(shape: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return shape[..., 0] ** 2, shape[..., 1] ** 2, torch.tanh(shape[..., 2])


def _colored(z: Tensor, shape: Tensor) -> Tensor:
    """Return S^(1/2) z by the Cholesky factor of S."""
    s1, s2, rho = _scales(shape)
    second = rho * z[..., 0] + torch.sqrt(1 - rho**2) * z[..., 1]
    return torch.stack([s1 * z[..., 0], s2 * second], -1)
