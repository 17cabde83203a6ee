"""Abstract base class of noise that is added in training."""

import abc
from typing import ClassVar

from torch import Tensor

from sde_gen.noise import Noise
from sde_gen.utils.arguments import Checked


class TrainingNoise(Checked, abc.ABC):
    """The noise eps of x_t = alpha x_0 + sigma eps for the samples of a global batch.

    The process has independent N(0, I). Other noise changes what the network learns, and not the process by which it
    is sampled.
    """

    batch_coupled: ClassVar[bool] = False
    """True if the noise of a sample depends on the other samples of the batch."""

    @abc.abstractmethod
    def __call__(self, x0: Tensor, noise: Noise) -> Tensor:
        """Draw the noise of clean samples, with the shape (B, *event) and the dtype of x0."""
