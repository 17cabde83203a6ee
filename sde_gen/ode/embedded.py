"""What a method owes that chooses its own steps: a step with an estimate of its error."""

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
    """Something that answers for the samples of a batch, and can be made to answer for some of them."""

    def select(self: Model, index: Tensor, count: int) -> Model:
        """Keep the samples ``index`` with shape (b,) of ``count`` only."""
        ...


class Interval(NamedTuple):
    """Steps of b samples: from u to v in the variable, from t to s in time, float64 on the CPU with shape (b,)."""

    u: Tensor
    v: Tensor
    t: Tensor
    s: Tensor


class Trial(NamedTuple):
    """Where steps of b samples end.

    Arguments:
        x: samples at the ends with shape (b, *event).
        error: estimated errors over the tolerance with shape (b,).
        slope: what the method keeps of the evaluation at the ends, if it has made one, with shape (b, *event).
        inside: samples (b, *event) at one variable and time, with shape (), for those whose steps contain it.
    """

    x: Tensor
    error: Tensor
    slope: Tensor | None
    inside: Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class EmbeddedPair(abc.ABC, Generic[Model]):
    """Steps of a variable that estimate their own error, and the tolerances for it.

    Arguments:
        rtol: relative tolerance.
        atol: absolute tolerance.
        max_steps: most steps tried for one sample.

    Raises:
        ValueError: a tolerance is not positive, or max_steps is below 1.
    """

    rtol: float
    atol: float
    max_steps: int = 1000

    def __post_init__(self) -> None:
        """Check the constructor's arguments."""
        if not (0 < self.rtol < math.inf and 0 < self.atol < math.inf):
            raise ValueError(f"rtol={self.rtol}, atol={self.atol}: tolerances must be positive and finite")
        if self.max_steps < 1:
            raise ValueError(f"max_steps={self.max_steps}: at least one step is needed")

    @property
    @abc.abstractmethod
    def exponent(self) -> int:
        """The q of the error's estimate."""

    @property
    @abc.abstractmethod
    def stages(self) -> int:
        """Evaluations of an attempt, without that at its begin."""

    @abc.abstractmethod
    def variable(self, model: Model) -> TimeVariable:
        """The variable in which steps are taken."""

    @abc.abstractmethod
    def first(self, whole: float) -> float:
        """Length of the first step tried, of the whole way in the variable."""

    @abc.abstractmethod
    def slope(self, model: Model, x: Tensor, t: Tensor) -> Tensor:
        """What the method keeps of the evaluation at times t (b,), with shape (b, *event)."""

    @abc.abstractmethod
    def attempt(self, model: Model, x: Tensor, slope: Tensor, span: Interval) -> Trial:
        """Try a step of every sample."""
