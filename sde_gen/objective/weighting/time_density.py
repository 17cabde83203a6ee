"""The unweighted error, averaged over a law of times."""

from dataclasses import dataclass

from torch import Tensor

from sde_gen.objective.time_sampler.base import TimeSampler
from sde_gen.objective.weighting.base import Weighting
from sde_gen.sde.base import SDE


@dataclass(frozen=True, kw_only=True)
class TimeDensity(Weighting):
    """w = the density of a law of times.

    With the same law as time sampler every error counts alike. Half uniform times and half importance
    times, for instance, weigh half for the picture and half for the likelihood.

    Arguments:
        times: the law.
    """

    times: TimeSampler

    def __call__(self, sde: SDE, t: Tensor) -> Tensor:
        """The density."""
        return self.times.density(sde, t)
