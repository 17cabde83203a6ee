"""Likelihoods: log-density of the probability flow, bounds of the reverse-time SDE, bits per dimension."""

from sde_gen.denoiser.decoder import Categorical, Decoder, DiscretizedGaussian, GaussianDecoder, LastStep
from sde_gen.likelihood import dequantization, divergence
from sde_gen.likelihood.bits import ErrorBudget, MeanEstimate, bits_per_dim, budget, estimate, nats_to_bits
from sde_gen.likelihood.bound import ELBO, Bound
from sde_gen.likelihood.flow import LogDensity, LogProb, log_prob
from sde_gen.likelihood.vlb import VLB, discrete_vlb

__all__ = [
    "ELBO",
    "VLB",
    "Bound",
    "Categorical",
    "Decoder",
    "DiscretizedGaussian",
    "ErrorBudget",
    "GaussianDecoder",
    "LastStep",
    "LogDensity",
    "LogProb",
    "MeanEstimate",
    "bits_per_dim",
    "budget",
    "dequantization",
    "discrete_vlb",
    "divergence",
    "estimate",
    "log_prob",
    "nats_to_bits",
]


def __dir__() -> list[str]:
    return sorted(__all__)
