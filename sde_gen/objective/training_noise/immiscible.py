"""Noise assigned to the nearest samples of a batch."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from sde_gen.noise import Noise
from sde_gen.objective.training_noise.base import TrainingNoise


@dataclass(frozen=True, kw_only=True)
class ImmiscibleNoise(TrainingNoise):
    r"""Gaussian noise whose order in the batch is such that noise and samples are near each other.

    .. math::
        \min_\pi \sum_i \| x_{0,i} - \epsilon_{\pi(i)} \|^2

    over all orders of the global batch, by a linear assignment on the CPU. The noise of all samples together is N(0, I)
    as before; the noise of a given sample is not.

    Source: Li et al., 2024, arXiv:2406.12303, algorithm 1 (distances between images and noise).
    """

    batch_coupled: ClassVar[bool] = True

    def __call__(self, x0: Tensor, noise: Noise) -> Tensor:
        """Draw the noise and assign it."""
        eps = noise.normal(x0)
        cost = -(
            x0.flatten(1).double() @ eps.flatten(1).double().mT
        )  # squared norms do not depend on the order
        _, order = linear_sum_assignment(cost.cpu().numpy())
        return eps[torch.as_tensor(order, device=eps.device)]
