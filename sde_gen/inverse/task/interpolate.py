"""Interpolation between two images."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.inverse.editing import Editor, interpolate
from sde_gen.inverse.task.base import Task
from sde_gen.noise import Noise
from sde_gen.sampler import Sampler
from sde_gen.solver.callbacks import Hook
from sde_gen.utils.types import Shape


@dataclass(frozen=True, kw_only=True, eq=False)
class Interpolate(Task):
    """Go from one image to another over the codes between theirs.

    The first and the last result are the images themselves, there and back through the probability flow: how far
    they are off is the error of the solver's steps.

    Sources: as :class:`~sde_gen.inverse.Editor` and :func:`~sde_gen.inverse.interpolate`.

    Arguments:
        a: first image in model space with shape (1, *event).
        b: last image.
        event: shape of the model's images, such as (C, H, W).

    Raises:
        ValueError: an image has another shape; or, when called, the solver draws noise.
    """

    a: Tensor
    b: Tensor
    event: Shape
    draws: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the constructor's arguments."""
        for name, image in (("a", self.a), ("b", self.b)):
            if tuple(image.shape[1:]) != tuple(self.event):
                raise ValueError(
                    f"the image {name} has shape {tuple(image.shape[1:])}; expected the model's, {tuple(self.event)}"
                )

    @property
    def given(self) -> Sequence[Tensor]:
        """Both images."""
        return [self.a, self.b]

    @property
    def truth(self) -> Tensor | None:
        """Nobody knows what lies between."""
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
        """Encode both, go from one code to the other, decode."""
        del noise
        editor, n = Editor(sampler=sampler), shape[0]
        a, b = (editor.encode(denoiser, end.to(device).expand(shape)) for end in (self.a, self.b))
        weight = torch.linspace(0, 1, n, dtype=torch.float64)
        return editor.decode(denoiser, interpolate(a, b, weight), hooks=hooks)
