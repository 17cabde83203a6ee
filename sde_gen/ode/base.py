"""The abstract ODE integrator, and the fields that it follows."""

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from sde_gen.utils.arguments import Checked

State = tuple[Tensor, ...]
"""What an ODE carries: tensors, each with the batch in front."""

Slope = Callable[[Tensor, State], State]
"""A function ``slope(t, y) -> dy/dt`` of a float64 scalar t on the CPU and a state."""

F = TypeVar("F", bound="Field")


class Field(abc.ABC):
    """A vector field on states, every sample by itself."""

    @abc.abstractmethod
    def __call__(self, t: Tensor, y: State) -> State:
        """The slope dy/dt in the dtypes of y, at a time t of shape (), or a time of every sample's own, (B,)."""

    def select(self: F, index: Tensor, count: int) -> F:
        """The field of the samples ``index`` with shape (b,) of ``count``; itself, if it holds nothing for a sample."""
        del index, count
        return self

    def parameters(self) -> Sequence[Tensor]:
        """What it depends on besides t and y, and gradients are wanted of."""
        return ()


@dataclass(frozen=True)
class FunctionField(Field):
    """A field that is a function, and the same for every sample.

    Arguments:
        slope: ``slope(t, y) -> dy/dt``; methods whose steps are every sample's own ask it at times of shape (b,).
    """

    slope: Slope

    def __call__(self, t: Tensor, y: State) -> State:
        """Ask the function."""
        return self.slope(t, y)


class Integrator(Checked, abc.ABC):
    """A method for dy/dt = field(t, y), in either direction of time."""

    @property
    def batch_coupled(self) -> bool:
        """Whether a sample's result depends on the others of its batch."""
        return False

    @property
    def adaptive(self) -> bool:
        """Whether it chooses its steps by the field, which has to be smooth then."""
        return False

    @property
    def differentiable(self) -> bool:
        """Whether gradients flow through it, to the state at t0 and to the field's parameters."""
        return True

    @abc.abstractmethod
    def refine(self) -> "Integrator":
        """The same method with an error many times less: twice the steps, or a tenth of the tolerances."""

    @abc.abstractmethod
    def integrate(self, field: Field, y: State, t0: float, t1: float) -> State:
        """Carry y from t0 to t1.

        Arguments:
            field: the vector field; it is asked between t0 and t1 only.
            y: the state at t0; every tensor has the batch in front.
            t0: where to start.
            t1: where to end; smaller or larger than t0.

        Returns:
            The state at t1, in the dtypes of y.

        Raises:
            FloatingPointError: a method that chooses its steps found the field not finite, or no step small enough.
        """
