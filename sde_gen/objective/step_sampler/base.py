"""Abstract base class of distributions of the training steps of a chain."""

import abc
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from sde_gen.utils.arguments import Checked


class StepSample(NamedTuple):
    """Indices of the steps, int64, and their probabilities, float64, both with shape (B,)."""

    step: Tensor
    probability: Tensor


class StepSampler(Checked, abc.ABC):
    """Distribution of the index of a step, from 0 to T - 1.

    The loss of a step is divided by T times its probability, so its expectation is the mean over all steps: the
    distribution changes the variance only.
    """

    @abc.abstractmethod
    def probabilities(self, count: int, device: torch.device) -> Tensor:
        """Return the probabilities of T = ``count`` steps, float64 with shape (T,)."""

    def __call__(self, count: int, u: Tensor) -> StepSample:
        """Map uniform numbers u in [0, 1) of shape (B,) to steps, by the inverse of the distribution function."""
        probabilities = self.probabilities(count, u.device)
        index = torch.searchsorted(probabilities.cumsum(0), u.double().contiguous(), right=True)
        index = index.clamp(max=count - 1)  # the sum of the probabilities may round below u
        return StepSample(index, probabilities[index])

    def observe(self, count: int, index: Tensor, losses: Tensor) -> None:
        """Update the state by the losses of a step of the training; without a state, do nothing.

        Arguments:
            count: number of steps T of the chain.
            index: index of the step of every sample of the global batch, with shape (B,).
            losses: their losses, not divided by the probability, with shape (B,).
        """
        del count, index, losses

    def state(self) -> dict[str, Tensor]:
        """Return the tensors of the state, empty without one."""
        return {}

    def load_state(self, count: int, tensors: Mapping[str, Tensor]) -> None:
        """Restore the tensors of :meth:`state` for T = ``count`` steps; without a state, do nothing.

        Raises:
            ValueError: they are the state of another sampler, or of another number of steps.
        """
        del count, tensors
