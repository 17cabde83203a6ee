"""Variations of an image."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from sde_gen.inverse.editing import Editor
from sde_gen.inverse.task.base import SampleRequest, Task
from sde_gen.utils.types import Shape


@dataclass(frozen=True, kw_only=True, eq=False)
class Vary(Task):
    """Diffuse an image to an intermediate noise level and sample from there (SDEdit).

    Source: as :meth:`sde_gen.inverse.Editor.sdedit`.

    Arguments:
        image: the image in model space with shape (1, *event).
        event: shape of the model's images, such as (C, H, W).
        ratio: sigma / alpha at which to begin; small ones change details, large ones nearly all.
        strength: share in (0, 1] of the sampler's evaluations that are taken, the last of them, in the place of the
            ratio.

    Raises:
        ValueError: the image has another shape, or the strength is out of range; or, when called, the ratio lies
            outside the grid.
    """

    image: Tensor
    event: Shape
    ratio: float = 1.0
    strength: float | None = None

    def __post_init__(self) -> None:
        if tuple(self.image.shape[1:]) != tuple(self.event):
            raise ValueError(
                f"the image has shape {tuple(self.image.shape[1:])}; expected the model's, {tuple(self.event)}"
            )
        if self.strength is not None and not 0 < self.strength <= 1:
            raise ValueError(f"strength={self.strength} must lie in (0, 1]: it is a share of the steps")

    @property
    def inputs(self) -> Sequence[Tensor]:
        """Return the image to vary."""
        return [self.image]

    @property
    def reference(self) -> Tensor | None:
        """None: variations have no reference."""
        return None

    def sample(self, request: SampleRequest) -> Tensor:
        """Add noise, and sample from there."""
        x = self.image.to(request.device).expand(request.shape)
        editor = Editor(sampler=request.sampler)
        if self.strength is not None:
            return editor.vary(
                request.denoiser, x, strength=self.strength, noise=request.noise, hooks=request.hooks
            )
        return editor.sdedit(request.denoiser, x, ratio=self.ratio, noise=request.noise, hooks=request.hooks)
