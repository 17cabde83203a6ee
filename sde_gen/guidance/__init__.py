"""What steers a denoiser: every guidance takes a denoiser and is one."""

from sde_gen.guidance.autoguidance import Autoguidance
from sde_gen.guidance.cfg import CFG
from sde_gen.guidance.classifier import Classifier, ClassifierGuidance
from sde_gen.guidance.clip import Clip
from sde_gen.guidance.diffpir import DiffPIR
from sde_gen.guidance.dps import DPS
from sde_gen.guidance.dynamic_threshold import DynamicThreshold
from sde_gen.guidance.mmps import MMPS
from sde_gen.guidance.noisy_classifier import NoisyClassifier
from sde_gen.guidance.pigdm import PiGDM

__all__ = [
    "CFG",
    "DPS",
    "MMPS",
    "Autoguidance",
    "Classifier",
    "ClassifierGuidance",
    "Clip",
    "DiffPIR",
    "DynamicThreshold",
    "NoisyClassifier",
    "PiGDM",
]
