"""Feature extractors for the comparison of sets of images."""

from sde_gen.evaluation.features.base import Extracted, Features
from sde_gen.evaluation.features.classifier import Classifier
from sde_gen.evaluation.features.dinov2 import DINOv2
from sde_gen.evaluation.features.efficientnet_lite0 import EfficientNet
from sde_gen.evaluation.features.feature_set import FeatureSet, extract
from sde_gen.evaluation.features.inception import Inception
from sde_gen.evaluation.features.pixels import Pixels
from sde_gen.evaluation.features.statistics import RunningStatistics, Statistics

__all__ = [
    "Classifier",
    "DINOv2",
    "EfficientNet",
    "Extracted",
    "FeatureSet",
    "Features",
    "Inception",
    "Pixels",
    "RunningStatistics",
    "Statistics",
    "extract",
]


def __dir__() -> list[str]:
    return sorted(__all__)
