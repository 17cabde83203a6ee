"""Activations other than silu, x times its logistic function, that U-Nets of other projects have."""

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
