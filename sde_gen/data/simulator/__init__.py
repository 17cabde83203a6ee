"""Simulators with priors of their parameters, and exact posteriors of benchmark tasks."""

from sde_gen.data.simulator.base import Simulator
from sde_gen.data.simulator.bernoulli_glm import BernoulliGLM
from sde_gen.data.simulator.gaussian_linear import GaussianLinear
from sde_gen.data.simulator.gaussian_mixture import GaussianMixture
from sde_gen.data.simulator.prior import NormalPrior, ParameterPrior, UniformPrior
from sde_gen.data.simulator.slcp import SLCP
from sde_gen.data.simulator.two_moons import TwoMoons

__all__ = [
    "SLCP",
    "BernoulliGLM",
    "GaussianLinear",
    "GaussianMixture",
    "NormalPrior",
    "ParameterPrior",
    "Simulator",
    "TwoMoons",
    "UniformPrior",
]


def __dir__() -> list[str]:
    return sorted(__all__)
