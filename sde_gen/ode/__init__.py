"""Integration of ordinary differential equations: methods, step-size control, and changes of the time variable."""

from sde_gen.ode.adams import Adams
from sde_gen.ode.adaptive import Controller, DenseOutput, PIController, Solution, Step, integrate_adaptive
from sde_gen.ode.adaptive_runge_kutta import AdaptiveRungeKutta, BogackiShampine, DormandPrince
from sde_gen.ode.base import Field, FunctionField, Integrator, Slope, State
from sde_gen.ode.embedded_pair import EmbeddedPair, Interval, Trial
from sde_gen.ode.runge_kutta import RK4
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
    "RK4",
    "Adams",
    "AdaptiveRungeKutta",
    "AngleVariable",
    "BogackiShampine",
    "Controller",
    "DenseOutput",
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
    "PIController",
    "ScipyODE",
    "Slope",
    "Solution",
    "State",
    "Step",
    "TimeVariable",
    "TorchDiffEq",
    "Trial",
    "integrate_adaptive",
]


def __dir__() -> list[str]:
    return sorted(__all__)
