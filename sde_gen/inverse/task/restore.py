"""Restoring an image from a measurement of it."""

import abc
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.inverse.method.base import Method
from sde_gen.inverse.operator.base import Operator
from sde_gen.inverse.task.base import Task
from sde_gen.noise import IID, Noise
from sde_gen.sampler import Sampler
from sde_gen.solver.callbacks import Hook
from sde_gen.utils.types import Shape


@dataclass(frozen=True, kw_only=True, eq=False)
class Restore(Task):
    """Sample images that measure what was measured.

    An image of the model's shape is measured here, and is the truth that results are compared with. One of the
    measurement's shape, such as a grey or a small one, is a measurement itself.

    Arguments:
        image: the image in model space with shape (1, *event), or the measurement with shape (1, *measurement).
        event: shape of the model's images, such as (C, H, W).
        method: how the sampler is given the measurement.
        noise_std: standard deviation, in model space, of the noise that a measurement made here is given; tell
            the method of it too.

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
        """The measurement."""

    def __post_init__(self) -> None:
        """Check the constructor's arguments."""
        if not self.noise_std >= 0:
            raise ValueError(f"noise_std={self.noise_std} must not be negative")
        got, measured = tuple(self.image.shape[1:]), self.shapes[1]
        if got not in self.shapes:
            also = "" if measured == tuple(self.event) else f", or a measurement of shape {measured}"
            raise ValueError(f"the image has shape {got}; expected the model's, {tuple(self.event)}{also}")

    @property
    def shapes(self) -> Sequence[Shape]:
        """The model's shape, and the measurement's."""
        return [tuple(self.event), tuple(self.operator(torch.zeros(1, *self.event)).shape[1:])]

    @property
    def truth(self) -> Tensor | None:
        """The image, where it is not the measurement."""
        return self.image if tuple(self.image.shape[1:]) == tuple(self.event) else None

    @property
    def y(self) -> Tensor:
        """The measurement with shape (1, *measurement); its noise is the same every time."""
        if self.truth is None:
            return self.image
        return self.operator.noised(self.truth, self.noise_std, IID.seeded(0))

    @property
    def given(self) -> Sequence[Tensor]:
        """The image, and the nearest to a blank one that measures y."""
        y, blank = self.y, torch.zeros(1, *self.event)
        shown = y if y.shape == blank.shape else self.operator.project(blank, y)
        return [shown] if self.truth is None else [self.truth, shown]

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
        """Sample given the measurement."""
        steered, walk = self.method(denoiser, sampler, self.operator, self.y.to(device))
        return walk(steered, shape, noise=noise, hooks=hooks, device=device)
