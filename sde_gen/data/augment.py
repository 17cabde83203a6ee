"""Augmentation on the device, with explicit random generators."""

import abc
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.utils.arguments import Checked
from sde_gen.utils.broadcasting import broadcast


class Augmentation(Checked, abc.ABC):
    """Abstract random transformation of a batch."""

    batch_coupled: ClassVar[bool] = True
    """True if the result for a sample may depend on the values of other samples, such as in mixup. If False, each
    process reads only its part of a batch from disk, and the other rows are placeholders."""

    num_labels: ClassVar[int] = 0
    """Number of augmentation labels per sample, on which the network is conditioned; 0 for none."""

    moves_pixels: ClassVar[bool] = True
    """True if values may change their places, so that an image given as a condition would no longer fit."""

    @abc.abstractmethod
    def __call__(self, values: Tensor, generator: torch.Generator) -> Tensor:
        """Transform values with shape (B, *event)."""

    def augment(self, values: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Transform values (B, *event); return them with the augmentation labels as conditioning of the network.

        The labels are ``augment`` with shape (B, num_labels), or none. Zeros mark an unchanged sample.
        """
        return self(values, generator), {}

    @property
    def for_evaluation(self) -> "Augmentation":
        """Augmentation of validation data: the same, unless the network is conditioned on labels."""
        return self


@dataclass(frozen=True, kw_only=True)
class NoAugmentation(Augmentation):
    """No augmentation."""

    batch_coupled: ClassVar[bool] = False
    moves_pixels: ClassVar[bool] = False

    def __call__(self, values: Tensor, generator: torch.Generator) -> Tensor:
        """Return the batch unchanged."""
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
