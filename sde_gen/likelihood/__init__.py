"""Likelihoods: log-density of the probability flow, bits per dimension."""

from sde_gen.likelihood.bits import Estimate, bits_per_dim, estimate
from sde_gen.likelihood.flow import Density, LogProb, log_prob

__all__ = ["Density", "Estimate", "LogProb", "bits_per_dim", "estimate", "log_prob"]
