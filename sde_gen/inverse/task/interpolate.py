"""Interpolation between two images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.inverse.editing import Editor, interpolate
from sde_gen.inverse.task.base import SampleRequest, Task
from sde_gen.utils.types import Shape


@dataclass(frozen=True, kw_only=True, eq=False)
class Interpolate(Task):
    """Interpolate two images in latent space (DDIM inversion and spherical interpolation).

    The first and the last result are the reconstructions of the two images; their error is the discretization error of
    the solver.

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
    is_random: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name, image in (("a", self.a), ("b", self.b)):
            if tuple(image.shape[1:]) != tuple(self.event):
                raise ValueError(
                    f"the image {name} has shape {tuple(image.shape[1:])}; expected the model's, {tuple(self.event)}"
                )

    @property
    def inputs(self) -> Sequence[Tensor]:
        """Return the two images to interpolate between."""
        return [self.a, self.b]

    @property
    def reference(self) -> Tensor | None:
        """None: there is no reference between the images."""
        return None

    def sample(self, request: SampleRequest) -> Tensor:
        """Encode both images, interpolate their latents, and decode."""
        editor, shape, denoiser = Editor(sampler=request.sampler), request.shape, request.denoiser
        a, b = (editor.encode(denoiser, image.to(request.device).expand(shape)) for image in (self.a, self.b))
        weight = torch.linspace(0, 1, shape[0], dtype=torch.float64)
        return editor.decode(denoiser, interpolate(a, b, weight), hooks=request.hooks)
