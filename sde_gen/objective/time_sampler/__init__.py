"""Distributions of training times."""

from sde_gen.objective.time_sampler.base import TimeSample, TimeSampler
from sde_gen.objective.time_sampler.importance import Importance
from sde_gen.objective.time_sampler.log1p_snr import Log1pSNR
from sde_gen.objective.time_sampler.log_normal import LogNormal
from sde_gen.objective.time_sampler.mixture import Mixture
from sde_gen.objective.time_sampler.stratified import Stratified
from sde_gen.objective.time_sampler.uniform import UniformTime

__all__ = [
    "Importance",
    "Log1pSNR",
    "LogNormal",
    "Mixture",
    "Stratified",
    "TimeSample",
    "TimeSampler",
    "UniformTime",
]


def __dir__() -> list[str]:
    return sorted(__all__)
