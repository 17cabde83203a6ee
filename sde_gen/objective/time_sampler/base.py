"""The abstract distribution of training times."""

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
    """A distribution of times, as a transport of uniform numbers, with its density.

    The loss is divided by the density, so its expectation is the integral over t of weight and error: the time
    sampler changes the variance, the weighting alone is the objective.
    """

    @abc.abstractmethod
    def times(self, sde: SDE, u: Tensor) -> Tensor:
        """Carry uniform numbers u in [0, 1) of shape (B,) to times, float64 with the same shape."""

    @abc.abstractmethod
    def density(self, sde: SDE, t: Tensor) -> Tensor:
        """The density at times t of shape (B,)."""

    def __call__(self, sde: SDE, u: Tensor) -> TimeSample:
        """Carry uniform numbers u in [0, 1) of shape (B,) to times and their densities."""
        t = self.times(sde, u)
        return TimeSample(t, self.density(sde, t))
