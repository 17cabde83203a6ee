"""Random probe vectors with unit covariance."""

import abc
from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.noise import Noise
from sde_gen.utils.arguments import Checked


class Probe(Checked, abc.ABC):
    """A distribution of random vectors with E[v v^T] = I."""

    @abc.abstractmethod
    def __call__(self, x: Tensor, noise: Noise) -> Tensor:
        """Draw vectors like x."""


@dataclass(frozen=True, kw_only=True)
class Rademacher(Probe):
    r"""Random signs: the estimate has variance 2 (|S|^2 - sum_i S_ii^2) with S = (J + J^T) / 2."""

    def __call__(self, x: Tensor, noise: Noise) -> Tensor:
        """Signs of Gaussian numbers."""
        return torch.where(noise.normal(x) < 0, -1.0, 1.0).to(x.dtype)


@dataclass(frozen=True, kw_only=True)
class GaussianProbe(Probe):
    r"""Gaussian vectors: the estimate has variance 2 |S|^2."""

    def __call__(self, x: Tensor, noise: Noise) -> Tensor:
        """Draw v ~ N(0, I) with the shape of x."""
        return noise.normal(x)
