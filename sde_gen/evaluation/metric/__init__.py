"""Metrics of a model on data."""

from sde_gen.evaluation.metric.base import Metric, MetricResult
from sde_gen.evaluation.metric.bpd import BitsPerDim
from sde_gen.evaluation.metric.data_term import DataTerm, DequantizedData, DiscreteData, LastStepLevels
from sde_gen.evaluation.metric.elbo import ContinuousBound
from sde_gen.evaluation.metric.importance import ImportanceBits
from sde_gen.evaluation.metric.vlb import ChainBound

__all__ = [
    "BitsPerDim",
    "ChainBound",
    "ContinuousBound",
    "DataTerm",
    "DequantizedData",
    "DiscreteData",
    "ImportanceBits",
    "LastStepLevels",
    "Metric",
    "MetricResult",
]


def __dir__() -> list[str]:
    return sorted(__all__)
