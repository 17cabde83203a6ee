"""Weightings of the training loss over time, all on the squared error of the noise."""

from sde_gen.objective.weighting.base import Weighting
from sde_gen.objective.weighting.edm import EDMWeighting
from sde_gen.objective.weighting.likelihood import Likelihood
from sde_gen.objective.weighting.min_snr import MinSNR
from sde_gen.objective.weighting.simple import Simple
from sde_gen.objective.weighting.time_density import TimeDensity
from sde_gen.objective.weighting.truncated_snr import TruncatedSNR
from sde_gen.objective.weighting.velocity import VelocityError

__all__ = [
    "EDMWeighting",
    "Likelihood",
    "MinSNR",
    "Simple",
    "TimeDensity",
    "TruncatedSNR",
    "VelocityError",
    "Weighting",
]


def __dir__() -> list[str]:
    return sorted(__all__)
