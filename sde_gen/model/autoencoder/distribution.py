"""Distributions of a number of the data about the decoder's output."""

import abc
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


class LocationScale(abc.ABC):
    """A standard distribution on the line, of u = (x - location) / scale."""

    @abc.abstractmethod
    def log_density(self, u: Tensor) -> Tensor:
        """Return the logarithm of the density."""

    @abc.abstractmethod
    def log_mass(self, low: Tensor, high: Tensor) -> Tensor:
        """Return the logarithm of the probability of the interval from low to high, accurate in the tails."""


@dataclass(frozen=True, kw_only=True)
class Gaussian(LocationScale):
    """The normal distribution N(0, 1)."""

    def log_density(self, u: Tensor) -> Tensor:
        """Return log N(u; 0, 1)."""
        return -0.5 * u**2 - 0.5 * math.log(2 * math.pi)

    def log_mass(self, low: Tensor, high: Tensor) -> Tensor:
        """Return log(Phi(high) - Phi(low))."""
        # of an interval and its mirror image, take the one in the lower tail, where log_ndtr keeps all digits
        low, high = torch.where(low > 0, -high, low), torch.where(low > 0, -low, high)
        top, bottom = torch.special.log_ndtr(high), torch.special.log_ndtr(low)
        mass: Tensor = top + torch.log(-torch.expm1(bottom - top))
        return mass


@dataclass(frozen=True, kw_only=True)
class Logistic(LocationScale):
    r"""The logistic distribution, of distribution function s(u) = 1 / (1 + exp(-u)).

    .. math:: s(b) - s(a) = s(b)\, s(-a)\, (1 - e^{a - b})

    Source: Kingma et al., 2016, arXiv:1606.04934 (discretized logistic likelihood).
    """

    def log_density(self, u: Tensor) -> Tensor:
        """Return log(s(u) s(-u))."""
        return F.logsigmoid(u) + F.logsigmoid(-u)

    def log_mass(self, low: Tensor, high: Tensor) -> Tensor:
        """Return log(s(high) - s(low))."""
        return F.logsigmoid(high) + F.logsigmoid(-low) + torch.log(-torch.expm1(low - high))
