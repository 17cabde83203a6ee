"""Independent Gaussian noise."""

from dataclasses import dataclass

from torch import Tensor

from sde_gen.noise import Noise
from sde_gen.objective.training_noise.base import TrainingNoise


@dataclass(frozen=True, kw_only=True)
class IndependentNoise(TrainingNoise):
    """N(0, I), the noise of the process."""

    def __call__(self, x0: Tensor, noise: Noise) -> Tensor:
        """Draw N(0, I)."""
        return noise.normal(x0)
