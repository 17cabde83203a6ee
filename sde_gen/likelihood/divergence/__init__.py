"""Divergences of vector fields: exact, or estimated without bias."""

from sde_gen.likelihood.divergence.base import (
    Divergence,
    DivergenceEvaluator,
    GaussianProbe,
    Probe,
    Rademacher,
)
from sde_gen.likelihood.divergence.exact import Exact
from sde_gen.likelihood.divergence.hutch_plus_plus import HutchPlusPlus
from sde_gen.likelihood.divergence.hutchinson import Hutchinson

__all__ = [
    "Divergence",
    "DivergenceEvaluator",
    "Exact",
    "GaussianProbe",
    "HutchPlusPlus",
    "Hutchinson",
    "Probe",
    "Rademacher",
]


def __dir__() -> list[str]:
    return sorted(__all__)
