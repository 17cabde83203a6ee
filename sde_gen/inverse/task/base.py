"""The abstract task."""

import abc
from collections.abc import Iterable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.noise import Noise
from sde_gen.sampler import Sampler
from sde_gen.solver.callbacks import Hook
from sde_gen.utils.arguments import Checked
from sde_gen.utils.types import Shape


class Task(Checked, abc.ABC):
    """Something to do with a model and given images: with its sampler it stands where else a sampler does.

    Attributes:
        draws: whether the results are random draws, whose standard deviation says how sure they are.
        event: shape of the model's images.
    """

    draws: ClassVar[bool] = True
    event: Shape

    @property
    def shapes(self) -> Sequence[Shape]:
        """Shapes that a given image may have, the model's first."""
        return [tuple(self.event)]

    @property
    @abc.abstractmethod
    def given(self) -> Sequence[Tensor]:
        """What to show beside the results: images in model space, each with shape (1, *event)."""

    @property
    @abc.abstractmethod
    def truth(self) -> Tensor | None:
        """What the results should be, with shape (1, *event) or one row each; None where nobody knows."""

    @abc.abstractmethod
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
        """Do it.

        Arguments:
            sampler: solver, grid and number of steps.
            denoiser: the model, conditioning bound.
            shape: shape (B, *event) of the results.
            noise: source of all randomness.
            hooks: called after every step of the solver.
            device: of the results.

        Returns:
            Results in model space with the shape asked for.

        Raises:
            ValueError: the images do not fit the model, or sampler, task and method do not fit each other.
        """
