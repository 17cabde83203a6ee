"""Expectations over Gaussian noise without Monte Carlo: noise that hands out the nodes of a quadrature rule.

A bound is an expectation over noise and times. Fed with the nodes of Gauss and Hermite's rule for the noise, one
row of the batch per node, and with the first midpoint for the times, its rows average to that expectation.
"""

import numpy as np
import torch
from torch import Tensor

from sde_gen.objective.time_sampler import TimeSampler
from sde_gen.sde import SDE


class Nodes:
    """Every draw is the same: row i of every sample's block gets node i, every uniform number is ``u``.

    Arguments:
        samples: samples, each of which is repeated once per node.
        u: the uniform number.
        count: nodes per dimension, exact for polynomials up to degree 2 count - 1.
    """

    def __init__(self, samples: int, u: float = 0.0, count: int = 20) -> None:
        nodes, weights = np.polynomial.hermite_e.hermegauss(count)
        pairs = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), -1).reshape(-1, 2)
        self.weights = torch.tensor(np.outer(weights, weights).ravel() / weights.sum() ** 2)
        self.nodes, self.samples, self.u = torch.tensor(pairs), samples, u

    def repeat(self, x: Tensor) -> Tensor:
        """(B, 2) -> (B * nodes, 2)."""
        return x.repeat_interleave(len(self.nodes), 0)

    def mean(self, values: Tensor) -> Tensor:
        """The expectation: (B * nodes, *) -> (B, *)."""
        return torch.einsum("bn...,n->b...", values.unflatten(0, (self.samples, -1)), self.weights)

    def normal(self, x: Tensor) -> Tensor:
        return self.nodes.repeat(self.samples, 1).reshape(x.shape).to(x.dtype)

    def uniform(self, x: Tensor) -> Tensor:
        return torch.full((len(x),), self.u, dtype=torch.float64)


class Shared(TimeSampler):
    """A distribution of times asked once for the whole batch, whose uniform numbers are all the same."""

    def __init__(self, distribution: TimeSampler) -> None:
        self.distribution = distribution

    def times(self, sde: SDE, u: Tensor) -> Tensor:
        assert bool((u == u[0]).all())
        return self.distribution.times(sde, u[:1]).expand(len(u))

    def density(self, sde: SDE, t: Tensor) -> Tensor:
        return self.distribution.density(sde, t)
