"""Abstract base class of tasks."""

import abc
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.noise import Noise
from sde_gen.sampler import Sampler
from sde_gen.solver.callbacks import Hook
from sde_gen.utils.arguments import Checked
from sde_gen.utils.types import Shape


class SampleRequest(NamedTuple):
    """Arguments of a call of :class:`TaskSampler`.

    Arguments:
        sampler: solver, grid and number of steps.
        denoiser: the model, conditioning bound.
        shape: shape (B, *event) of the results.
        noise: source of all randomness.
        hooks: called after every step of the solver.
        device: device of the results.
    """

    sampler: Sampler
    denoiser: Denoiser
    shape: Shape
    noise: Noise
    hooks: Iterable[Hook]
    device: torch.device | str


class Task(Checked, abc.ABC):
    """An inverse problem or an edit of given images; ``task(sampler)`` is called like the sampler.

    Attributes:
        is_random: whether the results are random samples, whose standard deviation measures their uncertainty.
        event: shape of the model's images.
    """

    is_random: ClassVar[bool] = True
    event: Shape

    @property
    def shapes(self) -> Sequence[Shape]:
        """Admissible shapes of an input image, the model's first."""
        return [tuple(self.event)]

    @property
    @abc.abstractmethod
    def inputs(self) -> Sequence[Tensor]:
        """Input images to show beside the results, in model space, each with shape (1, *event)."""

    @property
    @abc.abstractmethod
    def reference(self) -> Tensor | None:
        """Images to compare the results with, shape (1, *event) or (B, *event); None if there are none."""

    @abc.abstractmethod
    def sample(self, request: SampleRequest) -> Tensor:
        """Return results in model space with the requested shape.

        Raises:
            ValueError: the images do not fit the model, or sampler, task and method do not fit each other.
        """

    def __call__(self, sampler: Sampler) -> "TaskSampler":
        """Return the sampler of the task's results."""
        return TaskSampler(self, sampler)


@dataclass(frozen=True)
class TaskSampler(Checked):
    """A sampler of a task's results, with the call signature of :class:`~sde_gen.sampler.Sampler`.

    Arguments:
        task: the task.
        sampler: solver, grid and number of steps.
    """

    task: Task
    sampler: Sampler

    def __call__(
        self,
        denoiser: Denoiser,
        shape: Shape,
        *,
        noise: Noise,
        hooks: Iterable[Hook] = (),
        device: torch.device | str = "cpu",
    ) -> Tensor:
        """Return results in model space with shape (B, *event); arguments as for :class:`SampleRequest`."""
        return self.task.sample(SampleRequest(self.sampler, denoiser, shape, noise, hooks, device))
