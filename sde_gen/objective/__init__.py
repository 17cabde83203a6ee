"""Training objectives, time samplers and weightings."""

from sde_gen.objective import pointwise_loss, step_sampler, time_sampler, training_noise, weighting
from sde_gen.objective.autoencoding import Autoencoding
from sde_gen.objective.base import Loss, NoiseDraw, Objective
from sde_gen.objective.consistency import Consistency
from sde_gen.objective.cross_entropy import CrossEntropy
from sde_gen.objective.diffusion_gan import DiffusionGAN, adversarial_loss
from sde_gen.objective.dsm import DSM
from sde_gen.objective.lagrangian import Lagrangian
from sde_gen.objective.mean_flow import MeanFlow
from sde_gen.objective.shortcut import Shortcut
from sde_gen.objective.token_cross_entropy import TokenCrossEntropy
from sde_gen.objective.two_times import TwoTimes
from sde_gen.objective.variational import Hybrid, VariationalBound

__all__ = [
    "DSM",
    "Autoencoding",
    "Consistency",
    "CrossEntropy",
    "DiffusionGAN",
    "Hybrid",
    "Lagrangian",
    "Loss",
    "MeanFlow",
    "NoiseDraw",
    "Objective",
    "Shortcut",
    "TokenCrossEntropy",
    "TwoTimes",
    "VariationalBound",
    "adversarial_loss",
    "pointwise_loss",
    "step_sampler",
    "time_sampler",
    "training_noise",
    "weighting",
]


def __dir__() -> list[str]:
    return sorted(__all__)
