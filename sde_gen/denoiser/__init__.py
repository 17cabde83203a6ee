"""Denoisers: a network, or an exact density, behind one interface."""

from sde_gen.denoiser import parametrization
from sde_gen.denoiser.autoregressive import AutoregressiveModel
from sde_gen.denoiser.base import Denoiser
from sde_gen.denoiser.denoising_gan import DenoisingGAN
from sde_gen.denoiser.dynamics import ProbabilityFlow, ReverseSDE
from sde_gen.denoiser.exact import GaussianDenoiser, MixtureDenoiser
from sde_gen.denoiser.exact_flow_map import GaussianFlowMap
from sde_gen.denoiser.flow_map import ConsistencyModel, FlowMap, NetworkFlowMap
from sde_gen.denoiser.network import NetworkDenoiser
from sde_gen.denoiser.network_autoencoder import NetworkAutoencoder
from sde_gen.denoiser.noisy_classifier import NoisyClassifier
from sde_gen.denoiser.prediction import Prediction
from sde_gen.denoiser.truncated import TruncatedProcess

TrainedModel = NetworkDenoiser | NoisyClassifier | NetworkAutoencoder | AutoregressiveModel
"""Models that a training trains: a network with the process of its times."""

__all__ = [
    "AutoregressiveModel",
    "ConsistencyModel",
    "Denoiser",
    "DenoisingGAN",
    "FlowMap",
    "GaussianDenoiser",
    "GaussianFlowMap",
    "MixtureDenoiser",
    "NetworkAutoencoder",
    "NetworkDenoiser",
    "NetworkFlowMap",
    "NoisyClassifier",
    "Prediction",
    "ProbabilityFlow",
    "ReverseSDE",
    "TrainedModel",
    "TruncatedProcess",
    "parametrization",
]


def __dir__() -> list[str]:
    return sorted(__all__)
