"""Noise that is added to the samples of a training batch."""

from sde_gen.objective.training_noise.base import TrainingNoise
from sde_gen.objective.training_noise.immiscible import ImmiscibleNoise
from sde_gen.objective.training_noise.independent import IndependentNoise
from sde_gen.objective.training_noise.offset import OffsetNoise

__all__ = ["ImmiscibleNoise", "IndependentNoise", "OffsetNoise", "TrainingNoise"]


def __dir__() -> list[str]:
    return sorted(__all__)
