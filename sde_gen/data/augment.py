"""Augmentation on the device, a pure function of the generator given."""

import abc
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.utils.arguments import Checked
from sde_gen.utils.broadcasting import broadcast


class Augmentation(Checked, abc.ABC):
    """A random change of a batch."""

    batch_coupled: ClassVar[bool] = True
    """Whether what becomes of a sample may depend on what others hold, and not on their number alone. If it does not,
    say so: each process then reads its share of a batch on the disk, which stands for the others' samples, too."""

    @abc.abstractmethod
    def __call__(self, values: Tensor, generator: torch.Generator) -> Tensor:
        """Change values with shape (B, *event)."""


@dataclass(frozen=True, kw_only=True)
class NoAugmentation(Augmentation):
    """Leave the data as they are."""

    batch_coupled: ClassVar[bool] = False

    def __call__(self, values: Tensor, generator: torch.Generator) -> Tensor:
        """Return the batch."""
        del generator
        return values


@dataclass(frozen=True, kw_only=True)
class HorizontalFlip(Augmentation):
    """Mirror every image left to right with probability one half."""

    batch_coupled: ClassVar[bool] = False

    def __call__(self, values: Tensor, generator: torch.Generator) -> Tensor:
        """Mirror some images of (B, C, H, W)."""
        chosen = torch.rand(len(values), generator=generator, device=generator.device).to(values.device) < 0.5
        return torch.where(broadcast(chosen, values), values.flip(-1), values)
