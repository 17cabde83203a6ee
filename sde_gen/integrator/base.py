"""The abstract ODE integrator."""

import abc
from collections.abc import Callable

from torch import Tensor

Field = Callable[[Tensor, tuple[Tensor, ...]], tuple[Tensor, ...]]
"""A vector field ``field(t, y) -> dy/dt`` on a tuple of tensors, each with the batch in front."""


class Integrator(abc.ABC):
    """A method for dy/dt = field(t, y), in either direction of time."""

    @property
    def batch_coupled(self) -> bool:
        """Whether a sample's result depends on the others of its batch."""
        return False

    @abc.abstractmethod
    def integrate(self, field: Field, y: tuple[Tensor, ...], t0: float, t1: float) -> tuple[Tensor, ...]:
        """Carry y from t0 to t1.

        Arguments:
            field: called with a float64 scalar t on the CPU and the state.
            y: the state at t0; every tensor has the batch in front.
            t0: where to start.
            t1: where to end; smaller or larger than t0.

        Returns:
            The state at t1, in the dtypes of y.
        """
