"""Metrics of a model on data."""

from sde_gen.evaluation.metric.base import Measured, Metric
from sde_gen.evaluation.metric.bpd import BitsPerDim
from sde_gen.evaluation.metric.elbo import ContinuousBound
from sde_gen.evaluation.metric.ending import Density, Ending, LastStepLevels, Levels
from sde_gen.evaluation.metric.importance import ImportanceBits
from sde_gen.evaluation.metric.vlb import ChainBound

__all__ = [
    "BitsPerDim",
    "ChainBound",
    "ContinuousBound",
    "Density",
    "Ending",
    "ImportanceBits",
    "LastStepLevels",
    "Levels",
    "Measured",
    "Metric",
]
