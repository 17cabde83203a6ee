"""Guidance: denoisers that wrap denoisers."""

from sde_gen.guidance.autoguidance import Autoguidance
from sde_gen.guidance.cfg import CFG
from sde_gen.guidance.classifier import ClassifierGuidance, TimeDependentClassifier
from sde_gen.guidance.clip import Clip
from sde_gen.guidance.composed_cfg import ComposedCFG
from sde_gen.guidance.control_strength import ControlStrength
from sde_gen.guidance.dynamic_threshold import DynamicThreshold
from sde_gen.guidance.requirements import Requirements

__all__ = [
    "CFG",
    "Autoguidance",
    "ClassifierGuidance",
    "Clip",
    "ComposedCFG",
    "ControlStrength",
    "DynamicThreshold",
    "Requirements",
    "TimeDependentClassifier",
]


def __dir__() -> list[str]:
    return sorted(__all__)
