"""The unweighted error, averaged over a distribution of times."""

from dataclasses import dataclass

from torch import Tensor

from sde_gen.objective.time_sampler.base import TimeSampler
from sde_gen.objective.weighting.base import Weighting
from sde_gen.sde.base import SDE


@dataclass(frozen=True, kw_only=True)
class TimeDensity(Weighting):
    """w = the density of a distribution of times.

    With the same distribution as time sampler all errors have equal weight. Half uniform times and half importance
    times, for instance, put half of the weight on image quality and half on likelihood.

    Arguments:
        times: the distribution.
    """

    times: TimeSampler

    def __call__(self, sde: SDE, t: Tensor) -> Tensor:
        """Return the density p(t) of the time sampler."""
        return self.times.density(sde, t)
