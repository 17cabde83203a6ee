"""Random Gaussian mixtures of six families, with exact denoiser and flow, in float64 NumPy.

In z = x / alpha and r = sigma / alpha the probability flow is one for every process: dz / dr = (z - E[x_0 | z]) / r.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

Array = NDArray[np.float64]


class Mixture:
    """Gaussians with diagonal covariances: means and variances (K, d), weights (K,)."""

    def __init__(self, means: Array, variances: Array, weights: Array) -> None:
        self.means, self.variances = means, variances
        self.log_weights = np.log(weights / weights.sum())

    def log_joint(self, z: Array, r: float) -> Array:
        """Log of weight times density of every component at ratio r, but for a constant: (B, d) -> (B, K)."""
        spread = self.variances + r * r
        inverse = 1 / spread
        squares = (z * z) @ inverse.T - 2 * z @ (self.means * inverse).T + (self.means**2 * inverse).sum(1)
        return self.log_weights - 0.5 * (squares + np.log(spread).sum(1))

    def denoise(self, z: Array, r: float) -> Array:
        """E[x_0 | z]."""
        log_joint = self.log_joint(z, r)
        p = np.exp(log_joint - log_joint.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        shrink = self.variances / (self.variances + r * r)
        return p @ (self.means * (1 - shrink)) + (p @ shrink) * z

    def flow(self, z: Array, first: float, last: float) -> Array:
        """The end of the probability flow."""

        def slope(log_r: float, flat: Array) -> Array:
            here = flat.reshape(z.shape)
            return (here - self.denoise(here, math.exp(log_r))).ravel()

        ends = math.log(first), math.log(last)
        return (
            solve_ivp(slope, ends, z.ravel(), method="DOP853", rtol=1e-10, atol=1e-11)
            .y[:, -1]
            .reshape(z.shape)
        )


def ring(rng: np.random.Generator) -> Mixture:
    """Narrow Gaussians on a circle in the plane."""
    k = int(rng.integers(4, 11))
    angle, radius = rng.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(k) / k, rng.uniform(0.6, 1.1)
    deviations = np.repeat(rng.uniform(0.04, 0.2, (k, 1)), 2, axis=1)
    return Mixture(
        radius * np.stack([np.cos(angle), np.sin(angle)], 1), deviations**2, rng.uniform(0.3, 1, k)
    )


def plane(rng: np.random.Generator) -> Mixture:
    """Scattered, elongated Gaussians in the plane."""
    k = int(rng.integers(3, 9))
    deviations = np.exp(rng.uniform(math.log(0.05), math.log(0.4), (k, 2)))
    return Mixture(0.7 * rng.standard_normal((k, 2)), deviations**2, rng.uniform(0.3, 1, k))


def power(rng: np.random.Generator, dim: int) -> Mixture:
    """Variances that fall like a power of an index, in a separate order for every component."""
    k, fall, index = int(rng.integers(4, 13)), rng.uniform(0.5, 2), np.arange(1, dim + 1)
    variances = [rng.permutation(0.25 * index**-fall * 2 ** rng.uniform(-1, 1, dim)) for _ in range(k)]
    means = rng.uniform(0.25, 0.6) * rng.standard_normal((k, dim))
    return Mixture(means, np.stack(variances), rng.uniform(0.3, 1, k))


def manifold(rng: np.random.Generator) -> Mixture:
    """64 dimensions whose variances fall fast in one common order, as those of images: nearly of few dimensions."""
    k, fall, index = int(rng.integers(4, 13)), rng.uniform(1.5, 2.5), np.arange(1, 65)
    variances = index**-fall * 2 ** rng.uniform(-1, 1, (k, 64)) + 1e-5
    return Mixture(rng.standard_normal((k, 64)) * index**-0.5, variances, rng.uniform(0.3, 1, k))


def broad(rng: np.random.Generator) -> Mixture:
    """Few wide, overlapping Gaussians in 16 dimensions."""
    k = int(rng.integers(2, 6))
    deviations = np.exp(rng.uniform(math.log(0.15), math.log(0.7), (k, 16)))
    return Mixture(0.4 * rng.standard_normal((k, 16)), deviations**2, rng.uniform(0.3, 1, k))


FAMILIES: Mapping[str, Callable[[np.random.Generator], Mixture]] = {
    "ring 2": ring,
    "plane 2": plane,
    "power 16": lambda rng: power(rng, 16),
    "power 64": lambda rng: power(rng, 64),
    "manifold 64": manifold,
    "broad 16": broad,
}
