"""Training objectives, time samplers and weightings."""

from sde_gen.objective import time_sampler, weighting
from sde_gen.objective.autoencoding import Autoencoding
from sde_gen.objective.cross_entropy import CrossEntropy
from sde_gen.objective.dsm import DSM, Loss, NoiseDraw, Objective

__all__ = [
    "DSM",
    "Autoencoding",
    "CrossEntropy",
    "Loss",
    "NoiseDraw",
    "Objective",
    "time_sampler",
    "weighting",
]


def __dir__() -> list[str]:
    return sorted(__all__)
