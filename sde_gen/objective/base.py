"""The abstract training objective, its random draws and its result."""

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, TypeVar

from torch import Tensor

from sde_gen.noise import Noise
from sde_gen.sde.base import SDE
from sde_gen.utils.arguments import Checked

Self = TypeVar("Self", bound="Objective")


class Loss(NamedTuple):
    """Loss of a batch; every field has shape (B,).

    Arguments:
        per_sample: the loss of every sample, whose mean is minimized.
        t: the times, float64.
        error: the unweighted mean squared error of the noise.
    """

    per_sample: Tensor
    t: Tensor
    error: Tensor


class NoiseDraw(NamedTuple):
    """Random draws of the loss of a batch, one row per sample.

    Arguments:
        t: the times, float64 with shape (B,).
        density: the density they were drawn from, with shape (B,).
        eps: the noise with shape (B, *event).
        s: the second times of a flow map, float64 with shape (B,) and at most t; None without.
    """

    t: Tensor
    density: Tensor
    eps: Tensor
    s: Tensor | None = None

    def select(self, index: slice) -> "NoiseDraw":
        """Return the draws of some samples, such as a process's share of the global batch."""
        return NoiseDraw(
            self.t[index], self.density[index], self.eps[index], None if self.s is None else self.s[index]
        )


class Objective(Checked, abc.ABC):
    """A training objective: random draws, and the loss of a model given these draws.

    An objective whose draws depend on earlier losses has a state, which checkpoints store.

    Attributes:
        channels_last: whether networks of images may keep their features in the memory order channels last; PyTorch's
            forward derivative of a group normalization does not take it.
    """

    channels_last: ClassVar[bool] = True

    def __call__(self, model: Any, x0: Tensor, *, noise: Noise, **cond: Tensor) -> Loss:
        """Evaluate the loss on clean samples x0 (B, *event), with one row of conditioning each."""
        return self.loss(model, x0, self.draw(model.sde, x0, noise), **cond)

    @abc.abstractmethod
    def draw(self, sde: SDE, x0: Tensor, noise: Noise) -> NoiseDraw:
        """Draw times and noise for samples with the shape (B, *event) and dtype of x0."""

    @abc.abstractmethod
    def loss(self, model: Any, /, x0: Tensor, draw: NoiseDraw, **cond: Tensor) -> Loss:
        """Evaluate the loss of a model on clean samples (B, *event), with one row of conditioning each."""

    def observe(self, sde: SDE, losses: Sequence[Loss], gather: Callable[[Tensor], Tensor]) -> None:
        """Update the state after a step; without a state, do nothing.

        Arguments:
            sde: the process.
            losses: losses of this process's share of every micro-batch, without gradient.
            gather: concatenates a tensor over the processes, in the order of their ranks; a collective operation.
        """
        del sde, losses, gather

    def state(self) -> dict[str, Tensor]:
        """Return the tensors of the state, empty without one."""
        return {}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the tensors of :meth:`state`; without a state, do nothing.

        Raises:
            ValueError: they belong to another objective.
        """
        del tensors

    @property
    def batch_coupled(self) -> bool:
        """Return whether the draws of a sample depend on the other samples of the batch."""
        return False

    @property
    def for_evaluation(self: Self) -> Self:
        """The objective of a validation loss, whose draws depend on no earlier losses."""
        return self
