"""Activations that U-Nets have."""

from dataclasses import dataclass
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor, nn


class Activation(Protocol):
    """A function of every number by itself."""

    def __call__(self, x: Tensor, /) -> Tensor:
        """The numbers, with the shape of x."""


@dataclass(frozen=True, kw_only=True)
class LeakyReLU:
    """x where it is positive, and ``slope`` x elsewhere (Maas et al., 2013); slope 0 is the rectifier.

    Arguments:
        slope: of the negative numbers.
    """

    slope: float = 0.2

    def __call__(self, x: Tensor, /) -> Tensor:
        """Apply the activation to a tensor."""
        return F.leaky_relu(x, self.slope)


@dataclass(frozen=True, kw_only=True)
class ELU:
    """x where it is positive, and exp(x) - 1 elsewhere (Clevert et al., 2015, arXiv:1511.07289)."""

    def __call__(self, x: Tensor, /) -> Tensor:
        """Apply the activation to a tensor."""
        return F.elu(x)


@dataclass(frozen=True, kw_only=True)
class SiLU:
    """x times its logistic function (Elfwing et al., 2017, arXiv:1702.03118)."""

    def __call__(self, x: Tensor, /) -> Tensor:
        """Apply the activation to a tensor."""
        return F.silu(x)


@dataclass(frozen=True, kw_only=True)
class GELU:
    """x times the distribution function of N(0, 1) at x (Hendrycks and Gimpel, 2016, arXiv:1606.08415)."""

    def __call__(self, x: Tensor, /) -> Tensor:
        """Apply the activation to a tensor."""
        return F.gelu(x)


@dataclass(frozen=True, kw_only=True)
class Mish:
    """x tanh(log(1 + exp(x))) (Misra, 2019, arXiv:1908.08681)."""

    def __call__(self, x: Tensor, /) -> Tensor:
        """Apply the activation to a tensor."""
        return F.mish(x)


class ActivationLayer(nn.Module):
    """An activation as a module.

    Arguments:
        activation: the activation.
    """

    def __init__(self, activation: Activation) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation elementwise."""
        return self.activation(x)
