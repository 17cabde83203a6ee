"""Abstract embedded Runge-Kutta pairs: one step with an error estimate."""

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

from torch import Tensor

from sde_gen.ode.time_variable import TimeVariable

Model = TypeVar("Model", bound="Selectable")
"""A denoiser, or a field of a differential equation."""


class Selectable(Protocol):
    """A model that can be restricted to some samples of its batch."""

    def select(self: Model, index: Tensor, count: int) -> Model:
        """Restrict to the samples ``index`` with shape (b,) of ``count``."""
        ...


class Interval(NamedTuple):
    """Steps of b samples: from u to v in the variable, from t to s in time, float64 on the CPU with shape (b,)."""

    u: Tensor
    v: Tensor
    t: Tensor
    s: Tensor


class Trial(NamedTuple):
    """Results of steps of b samples.

    Arguments:
        x: samples at the ends with shape (b, *event).
        error: estimated errors over the tolerance with shape (b,).
        slope: slopes at the ends with shape (b, *event), for methods that evaluate there; None for others.
        dense_output: a function of a value of the variable and its time, both with shape (), to samples (b, *event)
            there, interpolated within the steps that contain it.
    """

    x: Tensor
    error: Tensor
    slope: Tensor | None
    dense_output: Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class EmbeddedPair(abc.ABC, Generic[Model]):
    """Two methods of adjacent orders whose difference estimates the error of a step, and its tolerances.

    Arguments:
        rtol: relative tolerance.
        atol: absolute tolerance.
        max_steps: most steps attempted for one sample.

    Raises:
        ValueError: a tolerance is not positive, or max_steps is below 1.
    """

    rtol: float
    atol: float
    max_steps: int = 1000

    def __post_init__(self) -> None:
        if not (0 < self.rtol < math.inf and 0 < self.atol < math.inf):
            raise ValueError(f"rtol={self.rtol}, atol={self.atol}: tolerances must be positive and finite")
        if self.max_steps < 1:
            raise ValueError(f"max_steps={self.max_steps}: at least one step is needed")

    @property
    @abc.abstractmethod
    def error_order(self) -> int:
        """The exponent q of the error estimate h^q."""

    @property
    @abc.abstractmethod
    def stages(self) -> int:
        """Evaluations of an attempt, without the one at its begin."""

    @abc.abstractmethod
    def variable(self, model: Model) -> TimeVariable:
        """Return the variable in which steps are taken."""

    @abc.abstractmethod
    def initial_step(self, length: float) -> float:
        """Return the size of the first step attempted, for an interval of the variable of this length."""

    @abc.abstractmethod
    def slope(self, model: Model, x: Tensor, t: Tensor) -> Tensor:
        """Evaluate the slope at times t (b,), with shape (b, *event)."""

    @abc.abstractmethod
    def attempt(self, model: Model, x: Tensor, slope: Tensor, span: Interval) -> Trial:
        """Attempt a step of every sample."""
