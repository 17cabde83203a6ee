"""Prior distributions of a simulator's parameters."""

import abc
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class ParameterPrior(abc.ABC):
    """Abstract prior p(theta) of D parameters.

    Attributes:
        dim: number D of parameters.
        low: lower ends of the support, float64 with shape (D,); -inf where there is none.
        high: upper ends of the support, float64 with shape (D,); inf where there is none.
    """

    dim: int
    low: Tensor
    high: Tensor

    @abc.abstractmethod
    def sample(self, count: int, rng: np.random.Generator) -> Tensor:
        """Draw parameters, float64 with shape (count, D)."""

    @abc.abstractmethod
    def log_prob(self, theta: Tensor) -> Tensor:
        """Return log p(theta) in nats with shape (N,), -inf outside the support, for theta (N, D)."""

    def contains(self, theta: Tensor) -> Tensor:
        """Return whether parameters (N, D) lie in the support, bool with shape (N,)."""
        return ((theta >= self.low.to(theta)) & (theta <= self.high.to(theta))).all(1)


class UniformPrior(ParameterPrior):
    """Uniform distribution on a box.

    Arguments:
        low: lower ends with shape (D,).
        high: upper ends with shape (D,).

    Raises:
        ValueError: the ends have other lengths, are not finite, or not low < high.
    """

    def __init__(self, low: Sequence[float] | Tensor, high: Sequence[float] | Tensor) -> None:
        self.low, self.high = (torch.as_tensor(end, dtype=torch.float64) for end in (low, high))
        finite = bool(torch.isfinite(self.low).all() and torch.isfinite(self.high).all())
        if self.low.shape != self.high.shape or self.low.ndim != 1 or not len(self.low) or not finite:
            raise ValueError(f"low={low}, high={high}: expected two lists of finite numbers of one length")
        if not bool((self.low < self.high).all()):
            raise ValueError(f"low={low}, high={high}: every low must be below its high")
        self.dim = len(self.low)

    def sample(self, count: int, rng: np.random.Generator) -> Tensor:
        """Draw uniformly."""
        return self.low + (self.high - self.low) * torch.from_numpy(rng.random((count, self.dim)))

    def log_prob(self, theta: Tensor) -> Tensor:
        """Return minus the logarithm of the volume, -inf outside."""
        density = -float(torch.log(self.high - self.low).sum())
        found = torch.full((len(theta),), -math.inf, dtype=torch.float64)
        found[self.contains(theta)] = density
        return found


class NormalPrior(ParameterPrior):
    """Normal distribution.

    Arguments:
        mean: mean with shape (D,).
        cov: covariance with shape (D, D), positive definite.

    Raises:
        ValueError: the shapes do not match, or the covariance is not positive definite.
    """

    def __init__(self, mean: Sequence[float] | Tensor, cov: Sequence[Sequence[float]] | Tensor) -> None:
        self.mean = torch.as_tensor(mean, dtype=torch.float64)
        self.cov = torch.as_tensor(cov, dtype=torch.float64)
        self.dim = len(self.mean)
        if self.mean.ndim != 1 or tuple(self.cov.shape) != (self.dim, self.dim):
            raise ValueError(
                f"mean has shape {tuple(self.mean.shape)}, cov {tuple(self.cov.shape)}; expected (D,) and (D, D)"
            )
        root, failed = torch.linalg.cholesky_ex(self.cov)
        if bool(failed) or not torch.allclose(self.cov, self.cov.mT):
            raise ValueError("cov must be symmetric and positive definite")
        self.root = root
        self.low = torch.full((self.dim,), -math.inf, dtype=torch.float64)
        self.high = -self.low

    def sample(self, count: int, rng: np.random.Generator) -> Tensor:
        """Draw mean + L z with cov = L L^T."""
        drawn: Tensor = self.mean + torch.from_numpy(rng.standard_normal((count, self.dim))) @ self.root.mT
        return drawn

    def log_prob(self, theta: Tensor) -> Tensor:
        """Return the log-density."""
        z = torch.linalg.solve_triangular(self.root, (theta.double() - self.mean).mT, upper=False)
        log_det = torch.log(self.root.diagonal()).sum()
        found: Tensor = -0.5 * (z**2).sum(0) - log_det - 0.5 * self.dim * math.log(2 * math.pi)
        return found
