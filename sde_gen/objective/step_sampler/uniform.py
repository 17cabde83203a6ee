"""Uniform distribution of the steps of a chain."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.objective.step_sampler.base import StepSampler


@dataclass(frozen=True, kw_only=True)
class UniformSteps(StepSampler):
    """Every step has the probability 1 / T."""

    def probabilities(self, count: int, device: torch.device) -> Tensor:
        """Return 1 / T for every step."""
        return torch.full((count,), 1 / count, dtype=torch.float64, device=device)
