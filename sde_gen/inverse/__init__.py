"""Inverse problems, simulation-based inference and editing: operators, posterior sampling methods, tasks."""

from sde_gen.inverse import method, operator, task
from sde_gen.inverse.amortized import AmortizedPosterior, InferencePosterior, LikelihoodPosterior
from sde_gen.inverse.conditional_density import ConditionalDensity
from sde_gen.inverse.diffpir import DiffPIR
from sde_gen.inverse.dps import DPS
from sde_gen.inverse.editing import Editor, RoundTrip, interpolate
from sde_gen.inverse.mmps import MMPS
from sde_gen.inverse.pigdm import PiGDM
from sde_gen.inverse.projection import Projection
from sde_gen.inverse.repaint import RePaint
from sde_gen.inverse.twisted_smc import TwistedSMC

__all__ = [
    "DPS",
    "MMPS",
    "AmortizedPosterior",
    "ConditionalDensity",
    "DiffPIR",
    "Editor",
    "InferencePosterior",
    "LikelihoodPosterior",
    "PiGDM",
    "Projection",
    "RePaint",
    "RoundTrip",
    "TwistedSMC",
    "interpolate",
    "method",
    "operator",
    "task",
]


def __dir__() -> list[str]:
    return sorted(__all__)
