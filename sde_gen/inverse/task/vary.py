"""Variations of an image."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.inverse.editing import Editor
from sde_gen.inverse.task.base import Task
from sde_gen.noise import Noise
from sde_gen.sampler import Sampler
from sde_gen.solver.callbacks import Hook
from sde_gen.utils.types import Shape


@dataclass(frozen=True, kw_only=True, eq=False)
class Vary(Task):
    """Noise an image part of the way and sample from there.

    Source: as :meth:`sde_gen.inverse.Editor.vary`.

    Arguments:
        image: the image in model space with shape (1, *event).
        event: shape of the model's images, such as (C, H, W).
        ratio: sigma / alpha at which to begin; small ones change details, large ones nearly all.

    Raises:
        ValueError: the image has another shape; or, when called, the ratio lies outside the grid.
    """

    image: Tensor
    event: Shape
    ratio: float = 1.0

    def __post_init__(self) -> None:
        """Check the constructor's arguments."""
        if tuple(self.image.shape[1:]) != tuple(self.event):
            raise ValueError(
                f"the image has shape {tuple(self.image.shape[1:])}; expected the model's, {tuple(self.event)}"
            )

    @property
    def given(self) -> Sequence[Tensor]:
        """The image."""
        return [self.image]

    @property
    def truth(self) -> Tensor | None:
        """Variations are not to be the image."""
        return None

    def __call__(
        self,
        sampler: Sampler,
        denoiser: Denoiser,
        shape: Shape,
        *,
        noise: Noise,
        hooks: Iterable[Hook] = (),
        device: torch.device | str = "cpu",
    ) -> Tensor:
        """Noise, and sample."""
        x = self.image.to(device).expand(shape)
        return Editor(sampler=sampler).vary(denoiser, x, ratio=self.ratio, noise=noise, hooks=hooks)
