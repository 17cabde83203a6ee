"""Distributions of the training steps of a chain."""

from sde_gen.objective.step_sampler.base import StepSample, StepSampler
from sde_gen.objective.step_sampler.second_moment import SecondMoment
from sde_gen.objective.step_sampler.uniform import UniformSteps

__all__ = ["SecondMoment", "StepSample", "StepSampler", "UniformSteps"]


def __dir__() -> list[str]:
    return sorted(__all__)
