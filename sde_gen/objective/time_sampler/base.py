"""Abstract base class of distributions of training times."""

import abc
from typing import NamedTuple

from torch import Tensor

from sde_gen.sde.base import SDE
from sde_gen.utils.arguments import Checked


class TimeSample(NamedTuple):
    """Times and the density they were drawn from, both float64 with shape (B,)."""

    t: Tensor
    density: Tensor


class TimeSampler(Checked, abc.ABC):
    """Distribution of times, defined by its quantile function and density.

    The loss is divided by the density, so its expectation is the integral over t of weight and error: the time
    sampler changes the variance, the weighting alone is the objective.
    """

    @abc.abstractmethod
    def times(self, sde: SDE, u: Tensor) -> Tensor:
        """Map uniform numbers u in [0, 1) of shape (B,) to times, float64 with the same shape."""

    @abc.abstractmethod
    def density(self, sde: SDE, t: Tensor) -> Tensor:
        """Return the density at times t of shape (B,)."""

    def __call__(self, sde: SDE, u: Tensor) -> TimeSample:
        """Map uniform numbers u in [0, 1) of shape (B,) to times and their densities."""
        t = self.times(sde, u)
        return TimeSample(t, self.density(sde, t))
