"""The abstract conditioning of a training."""

import abc

from torch import Tensor

from sde_gen.noise import Noise
from sde_gen.utils.arguments import Checked


class Conditioning(Checked, abc.ABC):
    """Abstract map from the labels of a training batch to conditioning inputs of the denoiser."""

    @abc.abstractmethod
    def __call__(self, labels: Tensor | None, noise: Noise) -> dict[str, Tensor]:
        """Choose the conditioning of a batch.

        Arguments:
            labels: classes with shape (B,), or None for data without.
            noise: source of randomness.

        Returns:
            Keyword arguments of the denoiser, each with one row per sample.
        """
