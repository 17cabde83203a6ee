"""Exact solutions that share no code with the package under test.

In the coordinates z = x / alpha and rho = sigma / alpha the probability flow is the same for every process,

    dz / d log rho = -rho^2 grad log p_rho(z),    p_rho = data * N(0, rho^2 I)

(Karras et al., 2022, arXiv:2206.00364, appendix B.2), so one reference serves all of them. It is written in NumPy from
the definition of the mixture, without the denoisers, processes and dynamics of this package, and integrated by SciPy.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from torch import Tensor

from sde_gen.denoiser import MixtureDenoiser
from sde_gen.denoiser.base import Denoiser
from sde_gen.denoiser.parametrization.base import Parametrization
from sde_gen.denoiser.prediction import Prediction
from sde_gen.sde import SDE

Array = NDArray[np.float64]


class MixtureParameters(NamedTuple):
    """A mixture of Gaussians in the plane: means (K, 2), covariances (K, 2, 2), weights (K,)."""

    means: Array
    covs: Array
    weights: Array


MIXTURE = MixtureParameters(
    means=np.array([[1.0, 0.2], [-0.6, 0.9], [0.1, -1.1]]),
    covs=np.array(
        [[[0.30, 0.08], [0.08, 0.20]], [[0.25, -0.10], [-0.10, 0.35]], [[0.20, 0.00], [0.00, 0.30]]]
    ),
    weights=np.array([0.5, 0.2, 0.3]),
)
"""Three overlapping components: a smooth flow, on which orders show at few steps."""

GAUSSIAN = MixtureParameters(*(part[:1] for part in MIXTURE))
"""The first component alone."""

RATIOS = (20.0, 0.02)
"""First and last sigma / alpha of the flow on which solvers are verified; every process reaches both."""


def denoiser(
    sde: SDE, mixture: MixtureParameters = MIXTURE, event: tuple[int, ...] = (2,)
) -> MixtureDenoiser:
    """Return the exact denoiser of a mixture, on any event shape with two dimensions."""
    means, covs, weights = (torch.tensor(part) for part in mixture)
    return MixtureDenoiser(sde=sde, means=means.reshape(-1, *event), covs=covs, weights=weights)


def score(z: Array, rho: float, mixture: MixtureParameters = MIXTURE) -> Array:
    """Gradient of log p_rho at z of shape (B, 2), from the definition of the mixture."""
    means, covs, weights = mixture
    spread = covs + rho**2 * np.eye(2)
    away = means[None] - z[:, None]
    pull = np.linalg.solve(spread[None], away[..., None])[..., 0]  # (B, K, 2)
    log_joint = np.log(weights) - 0.5 * np.linalg.slogdet(spread)[1] - 0.5 * (away * pull).sum(-1)
    r = np.exp(log_joint - log_joint.max(1, keepdims=True))
    return np.asarray(((r / r.sum(1, keepdims=True))[..., None] * pull).sum(1))


def flow(
    z: Array, rho0: float, rho1: float, mixture: MixtureParameters = MIXTURE, rtol: float = 1e-12
) -> Array:
    """Integrate the probability flow from ratio rho0 to rho1, by an eighth-order method."""

    def slope(log_rho: float, flat: Array) -> Array:
        rho = np.exp(log_rho)
        return np.asarray(-(rho**2) * score(flat.reshape(z.shape), rho, mixture)).ravel()

    solution = solve_ivp(slope, np.log([rho0, rho1]), z.ravel(), method="DOP853", rtol=rtol, atol=1e-2 * rtol)
    assert solution.success
    return np.asarray(solution.y[:, -1]).reshape(z.shape)


def gaussian_flow(z: Array, rho0: float, rho1: float) -> Array:
    """The flow of GAUSSIAN in closed form: every principal axis is scaled by its standard deviation."""
    mean, (variances, axes) = GAUSSIAN.means[0], np.linalg.eigh(GAUSSIAN.covs[0])
    scale = np.sqrt((variances + rho1**2) / (variances + rho0**2))
    return np.asarray(mean + ((z - mean) @ axes * scale) @ axes.T)


@cache
def starts(count: int = 24) -> Array:
    """Starts z with shape (count, 2), drawn from the marginal at the first ratio."""
    rng = np.random.default_rng(0)
    k = rng.choice(3, size=count, p=MIXTURE.weights)
    spread = np.linalg.cholesky(MIXTURE.covs + RATIOS[0] ** 2 * np.eye(2))[k]
    return np.asarray(MIXTURE.means[k] + np.einsum("bij,bj->bi", spread, rng.standard_normal((count, 2))))


@cache
def ends(count: int = 24) -> Array:
    """End points of the flow of the mixture from the starts."""
    return flow(starts(count), *RATIOS)


def ratio_times(sde: SDE, steps: int) -> Tensor:
    """Times in equal steps of log_snr between the two ratios."""
    first, last = -2 * np.log(RATIOS)
    return sde.t_from_log_snr(torch.linspace(first, last, steps + 1, dtype=torch.float64))


def to_x(sde: SDE, z: Array, t: Tensor) -> Tensor:
    """The samples x = alpha z at time t, float64."""
    return sde.alpha(t) * torch.tensor(z)


def to_z(sde: SDE, x: Tensor, t: Tensor) -> Array:
    """The coordinates z = x / alpha of samples at time t."""
    return (x.double() / sde.alpha(t)).numpy()


class ParametrizedOracle(Denoiser):
    """A denoiser whose predictions pass through a parametrization, like those of a perfectly trained network.

    Arguments:
        denoiser: the exact denoiser.
        parametrization: parametrization that converts its predictions to a network's output and back.
    """

    def __init__(self, denoiser: Denoiser, parametrization: Parametrization) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.parametrization = parametrization
        self.sde = denoiser.sde

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
        """Return the prediction of the parametrized output."""
        exact, marginal = self.denoiser(x_t, t, **cond), self.sde.marginal(t)
        out = self.parametrization.target(exact.x0, exact.eps, marginal)
        return self.parametrization.predict(out, x_t, marginal)

    def select(self, index: Tensor, count: int) -> Denoiser:
        """Select the samples of the inner denoiser."""
        return self.replace_modules(denoiser=self.denoiser.select(index, count))
