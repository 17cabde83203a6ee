"""Metrics of a model on data."""

from sde_gen.metric.base import Metric
from sde_gen.metric.bpd import BitsPerDim

__all__ = ["BitsPerDim", "Metric"]
