"""The abstract ODE integrator, and vector fields."""

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

from torch import Tensor

from sde_gen.utils.arguments import Checked

State = tuple[Tensor, ...]
"""The state of an ODE: tensors, each with the batch dimension first."""

Slope = Callable[[Tensor, State], State]
"""A function ``slope(t, y) -> dy/dt`` of a float64 scalar t on the CPU and a state."""

F = TypeVar("F", bound="Field")


class Field(abc.ABC):
    """A vector field on states, every sample by itself."""

    @abc.abstractmethod
    def __call__(self, t: Tensor, y: State) -> State:
        """Return dy/dt in the dtypes of y, at a time t of shape () or, one per sample, (B,)."""

    def select(self: F, index: Tensor, count: int) -> F:
        """Return the field of the samples ``index`` with shape (b,) of ``count``."""
        del index, count
        return self

    def parameters(self) -> Sequence[Tensor]:
        """Return the tensors besides t and y to which gradients flow."""
        return ()


@dataclass(frozen=True)
class FunctionField(Field):
    """A field that is a function, and the same for every sample.

    Arguments:
        slope: ``slope(t, y) -> dy/dt``; methods with per-sample steps call it at times of shape (b,).
    """

    slope: Slope

    def __call__(self, t: Tensor, y: State) -> State:
        """Return dy/dt, the function's value at t and y."""
        return self.slope(t, y)


class Integrator(Checked, abc.ABC):
    """A method for dy/dt = field(t, y), in either direction of time."""

    @property
    def batch_coupled(self) -> bool:
        """True if a sample's result depends on the others of its batch."""
        return False

    @property
    @abc.abstractmethod
    def nfe(self) -> int | None:
        """Evaluations of the field in one integration; None for adaptive methods."""

    @property
    def adaptive(self) -> bool:
        """True for adaptive step sizes, which need a smooth field."""
        return False

    @property
    def differentiable(self) -> bool:
        """True if gradients flow to the state at t0 and to the field's parameters."""
        return True

    @abc.abstractmethod
    def refine(self) -> "Integrator":
        """Return the same method with a much smaller error: twice the steps, or a tenth of the tolerances."""

    @abc.abstractmethod
    def integrate(self, field: Field, y: State, t0: float, t1: float) -> State:
        """Integrate from t0 to t1.

        Arguments:
            field: the vector field; it is evaluated between t0 and t1 only.
            y: the state at t0; every tensor has the batch dimension first.
            t0: the initial time.
            t1: the final time, smaller or larger than t0.

        Returns:
            The state at t1, in the dtypes of y.

        Raises:
            FloatingPointError: an adaptive method finds the field not finite, or no step small enough.
        """

    def trajectory(self, field: Field, y: State, times: Tensor) -> list[State]:
        """Integrate through monotone times, and return the states at all of them.

        Methods with a fixed number of steps take that number between every two times; adaptive methods interpolate.

        Arguments:
            field: the vector field.
            y: the state at times[0].
            times: monotone times, float64 on the CPU with shape (n,).
        """
        states = [y]
        for t0, t1 in pairwise(times.tolist()):
            states.append(self.integrate(field, states[-1], t0, t1))
        return states
