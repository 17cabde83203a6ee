"""Metrics of a model on data, and of its samples beside a reference set."""

from sde_gen.evaluation.metric.autoencoder_bound import AutoencoderBits
from sde_gen.evaluation.metric.base import Metric, MetricResult
from sde_gen.evaluation.metric.bpd import BitsPerDim
from sde_gen.evaluation.metric.c2st import C2ST, two_sample_accuracy
from sde_gen.evaluation.metric.code_bound import CodeBits
from sde_gen.evaluation.metric.coverage import Coverage
from sde_gen.evaluation.metric.data_term import DataTerm, DequantizedData, DiscreteData, LastStepLevels
from sde_gen.evaluation.metric.elbo import ContinuousBound
from sde_gen.evaluation.metric.energy_distance import EnergyDistance
from sde_gen.evaluation.metric.fid import FrechetDistance, frechet_distance
from sde_gen.evaluation.metric.importance import ImportanceBits
from sde_gen.evaluation.metric.inception_score import InceptionScore
from sde_gen.evaluation.metric.kid import KernelDistance
from sde_gen.evaluation.metric.latent_bound import LatentBits
from sde_gen.evaluation.metric.memorization import Memorization
from sde_gen.evaluation.metric.mind import MIND
from sde_gen.evaluation.metric.posterior_metric import (
    ConditionalSamples,
    PosteriorCurve,
    PosteriorMetric,
    PosteriorResult,
    Uniformity,
)
from sde_gen.evaluation.metric.precision_recall import PrecisionRecall
from sde_gen.evaluation.metric.sample_metric import Quantity, SampleMetric, SampleResult
from sde_gen.evaluation.metric.sbc import SBC
from sde_gen.evaluation.metric.sliced_wasserstein import SlicedWasserstein
from sde_gen.evaluation.metric.tarp import TARP
from sde_gen.evaluation.metric.vlb import ChainBound

__all__ = [
    "C2ST",
    "MIND",
    "SBC",
    "TARP",
    "AutoencoderBits",
    "BitsPerDim",
    "ChainBound",
    "CodeBits",
    "ConditionalSamples",
    "ContinuousBound",
    "Coverage",
    "DataTerm",
    "DequantizedData",
    "DiscreteData",
    "EnergyDistance",
    "FrechetDistance",
    "ImportanceBits",
    "InceptionScore",
    "KernelDistance",
    "LastStepLevels",
    "LatentBits",
    "Memorization",
    "Metric",
    "MetricResult",
    "PosteriorCurve",
    "PosteriorMetric",
    "PosteriorResult",
    "PrecisionRecall",
    "Quantity",
    "SampleMetric",
    "SampleResult",
    "SlicedWasserstein",
    "Uniformity",
    "frechet_distance",
    "two_sample_accuracy",
]


def __dir__() -> list[str]:
    return sorted(__all__)
