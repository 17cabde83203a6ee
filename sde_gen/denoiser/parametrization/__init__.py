"""Parametrizations (prediction types): noise, data, score, v, velocity, or the preconditioned output of EDM."""

from sde_gen.denoiser.parametrization.base import LinearCoefficients, LinearParametrization, Parametrization
from sde_gen.denoiser.parametrization.edm import EDM
from sde_gen.denoiser.parametrization.eps import Eps
from sde_gen.denoiser.parametrization.label import (
    InterpolatedStep,
    LogRatio,
    LogSigma,
    LogTime,
    NearestStep,
    NearestTime,
    NoiseLabel,
    Ratio,
    Time,
)
from sde_gen.denoiser.parametrization.learned_range import LearnedVariance
from sde_gen.denoiser.parametrization.score import Score
from sde_gen.denoiser.parametrization.v import V
from sde_gen.denoiser.parametrization.velocity import Velocity
from sde_gen.denoiser.parametrization.x0 import X0

__all__ = [
    "EDM",
    "X0",
    "Eps",
    "InterpolatedStep",
    "LearnedVariance",
    "LinearCoefficients",
    "LinearParametrization",
    "LogRatio",
    "LogSigma",
    "LogTime",
    "NearestStep",
    "NearestTime",
    "NoiseLabel",
    "Parametrization",
    "Ratio",
    "Score",
    "Time",
    "V",
    "Velocity",
]


def __dir__() -> list[str]:
    return sorted(__all__)
