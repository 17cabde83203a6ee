"""Integration of ordinary differential equations: methods, step-size control, and changes of the time variable."""

from sde_gen.ode.adams import Adams
from sde_gen.ode.adaptive_runge_kutta import AdaptiveRungeKutta, BogackiShampine, DormandPrince
from sde_gen.ode.base import Field, FunctionField, Integrator, Slope, State
from sde_gen.ode.embedded import EmbeddedPair, Interval, Trial
from sde_gen.ode.per_sample import PerSampleStepper
from sde_gen.ode.runge_kutta import RungeKutta4
from sde_gen.ode.scipy_ode import ScipyODE
from sde_gen.ode.tableau import BOGACKI_SHAMPINE, DORMAND_PRINCE
from sde_gen.ode.time_variable import (
    AngleVariable,
    DiffusionTime,
    FlowCoefficients,
    FlowVariable,
    HalfLogSNR,
    Identity,
    TimeVariable,
)
from sde_gen.ode.torch_diffeq import TorchDiffEq

__all__ = [
    "BOGACKI_SHAMPINE",
    "DORMAND_PRINCE",
    "Adams",
    "AdaptiveRungeKutta",
    "AngleVariable",
    "BogackiShampine",
    "DiffusionTime",
    "DormandPrince",
    "EmbeddedPair",
    "Field",
    "FlowCoefficients",
    "FlowVariable",
    "FunctionField",
    "HalfLogSNR",
    "Identity",
    "Integrator",
    "Interval",
    "PerSampleStepper",
    "RungeKutta4",
    "ScipyODE",
    "Slope",
    "State",
    "TimeVariable",
    "TorchDiffEq",
    "Trial",
]


def __dir__() -> list[str]:
    return sorted(__all__)
