"""Processes: pure functions of time."""

from sde_gen.sde.base import SDE, Marginal, Posterior, Prior, Transition
from sde_gen.sde.cosine import Cosine
from sde_gen.sde.ddpm import (
    DDPM,
    cosine_betas,
    linear_betas,
    scaled_linear_betas,
    sigmoid_betas,
    zero_snr_betas,
)
from sde_gen.sde.edm import EDMProcess
from sde_gen.sde.linear import Linear, Table
from sde_gen.sde.rectified import Rectified
from sde_gen.sde.sub_vp import SubVP
from sde_gen.sde.ve import VE
from sde_gen.sde.vp import VP

__all__ = [
    "DDPM",
    "SDE",
    "VE",
    "VP",
    "Cosine",
    "EDMProcess",
    "Linear",
    "Marginal",
    "Posterior",
    "Prior",
    "Rectified",
    "SubVP",
    "Table",
    "Transition",
    "cosine_betas",
    "linear_betas",
    "scaled_linear_betas",
    "sigmoid_betas",
    "zero_snr_betas",
]


def __dir__() -> list[str]:
    return sorted(__all__)
