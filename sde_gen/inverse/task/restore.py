"""Restoring an image from a measurement of it."""

import abc
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.inverse.method import Method
from sde_gen.inverse.operator.base import Operator
from sde_gen.inverse.task.base import SampleRequest, Task
from sde_gen.noise import IID
from sde_gen.utils.types import Shape


@dataclass(frozen=True, kw_only=True, eq=False)
class Restore(Task):
    """Sample images from the posterior given a measurement.

    An image of the model's shape is measured, and is the reference of the results. An image of the measurement's shape,
    such as a gray or a small one, is the measurement.

    Arguments:
        image: the image in model space with shape (1, *event), or the measurement with shape (1, *measurement).
        event: shape of the model's images, such as (C, H, W).
        method: posterior sampling method.
        noise_std: standard deviation, in model space, of the noise that is added to a measured image; give
            the method the same value.

    Raises:
        ValueError: noise_std is negative, or the image has neither shape.
    """

    image: Tensor
    event: Shape
    method: Method
    noise_std: float = 0.01

    @property
    @abc.abstractmethod
    def operator(self) -> Operator:
        """Return the measurement operator A."""

    def __post_init__(self) -> None:
        if not self.noise_std >= 0:
            raise ValueError(f"noise_std={self.noise_std} must not be negative")
        shape, measured = tuple(self.image.shape[1:]), self.shapes[1]
        if shape not in self.shapes:
            alternative = "" if measured == tuple(self.event) else f", or a measurement of shape {measured}"
            raise ValueError(
                f"the image has shape {shape}; expected the model's, {tuple(self.event)}{alternative}"
            )

    @property
    def shapes(self) -> Sequence[Shape]:
        """Return the shapes of the model's images and of the measurement."""
        return [tuple(self.event), tuple(self.operator(torch.zeros(1, *self.event)).shape[1:])]

    @property
    def reference(self) -> Tensor | None:
        """Return the image, or None if it is the measurement."""
        return self.image if tuple(self.image.shape[1:]) == tuple(self.event) else None

    @property
    def y(self) -> Tensor:
        """Return the measurement with shape (1, *measurement); its noise is the same at every access."""
        if self.reference is None:
            return self.image
        return self.operator.noised(self.reference, self.noise_std, IID.seeded(0))

    @property
    def inputs(self) -> Sequence[Tensor]:
        """Return the image, and ``A^+ y`` where the measurement has another shape."""
        y, blank = self.y, torch.zeros(1, *self.event)
        projected = y if y.shape == blank.shape else self.operator.project(blank, y)
        return [projected] if self.reference is None else [self.reference, projected]

    def sample(self, request: SampleRequest) -> Tensor:
        """Sample given the measurement."""
        y = self.y.to(request.device)
        denoiser, sampler = self.method(request.denoiser, request.sampler, self.operator, y)
        return sampler(
            denoiser, request.shape, noise=request.noise, hooks=request.hooks, device=request.device
        )


def psnr(images: Tensor, reference: Tensor) -> Tensor:
    r"""Peak signal-to-noise ratio ``10 log10(255^2 / mean squared error)`` in decibels, infinite for equal images.

    Arguments:
        images: uint8 with shape (B, C, H, W).
        reference: uint8 with shape (1, C, H, W) or (B, C, H, W).

    Returns:
        float64 with shape (B,).
    """
    error = (images.double() - reference.double()).square().mean((1, 2, 3))
    return 10 * torch.log10(255**2 / error)
