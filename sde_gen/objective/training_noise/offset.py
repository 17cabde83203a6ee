"""Noise with a random offset of every channel."""

from dataclasses import dataclass

from torch import Tensor

from sde_gen.noise import Noise
from sde_gen.objective.training_noise.base import TrainingNoise
from sde_gen.utils.broadcasting import broadcast


@dataclass(frozen=True, kw_only=True)
class OffsetNoise(TrainingNoise):
    r"""Gaussian noise whose mean over each channel varies more than that of independent noise.

    .. math::
        \epsilon = n + s\, m, \qquad n \sim N(0, I), \quad m \sim N(0, 1) \;\text{once per channel}

    At t = 1 independent noise still shows the mean brightness of an image of many pixels, and samples are neither very
    dark nor very bright. This noise hides it. The covariance I + s^2 1 1^T of a channel is not that of the process.

    Sources: Guttenberg, 2023, Diffusion with Offset Noise; Podell et al., 2023, arXiv:2307.01952, section 2.5 (0.05).

    Arguments:
        strength: standard deviation s of the offset.

    Raises:
        ValueError: strength is not positive, or later a sample has no channels.
    """

    strength: float = 0.1

    def __post_init__(self) -> None:
        if not self.strength > 0:
            raise ValueError(
                f"strength={self.strength} must be positive; without an offset use independent noise"
            )

    def __call__(self, x0: Tensor, noise: Noise) -> Tensor:
        """Draw the noise and its offsets."""
        if x0.ndim < 3:
            raise ValueError(
                f"samples of shape {tuple(x0.shape[1:])} have no channels of several numbers; use "
                "training_noise=independent"
            )
        independent = noise.normal(x0)
        return independent + self.strength * broadcast(noise.normal(x0.new_empty(x0.shape[:2])), x0)
