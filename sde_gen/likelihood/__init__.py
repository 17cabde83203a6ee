"""Likelihoods: log-density of the probability flow, bounds of the reverse-time SDE, bits per dimension."""

from sde_gen.likelihood.bits import Budget, Estimate, bits_per_dim, budget, estimate
from sde_gen.likelihood.bound import ELBO, Bound
from sde_gen.likelihood.decoder import Categorical, Decoder, Discretised, Gaussian, LastStep
from sde_gen.likelihood.flow import Density, LogProb, log_prob
from sde_gen.likelihood.vlb import VLB, discrete_vlb

__all__ = [
    "ELBO",
    "VLB",
    "Bound",
    "Budget",
    "Categorical",
    "Decoder",
    "Density",
    "Discretised",
    "Estimate",
    "Gaussian",
    "LastStep",
    "LogProb",
    "bits_per_dim",
    "budget",
    "discrete_vlb",
    "estimate",
    "log_prob",
]
