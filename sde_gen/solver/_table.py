"""Solvers whose coefficients depend only on the grid, computed for all of its steps at once."""

import abc
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.noise import Noise
from sde_gen.sde.base import SDE
from sde_gen.solver.base import StepSolver
from sde_gen.utils.hashing import Memo, is_constant

Row = TypeVar("Row")
History = tuple[Tensor, ...]
"""Predictions of earlier steps, newest first."""

TABLES = 64
"""Number of grids whose coefficients are stored at most."""

_memo = Memo[tuple[object, SDE, Sequence[Any]]](TABLES)


class State(NamedTuple, Generic[Row]):
    """Index of the next step, coefficients of every step, and predictions of earlier steps."""

    step_index: int
    table: Sequence[Row]
    history: History


class TableSolver(StepSolver[State[Row]], Generic[Row]):
    """A solver that computes the coefficients of every step before the first one.

    A subclass computes them in :meth:`prepare` and takes a step with them in :meth:`apply`; index and history are kept
    here.

    Attributes:
        multistep: whether a step uses predictions of earlier steps.
    """

    multistep: ClassVar[bool] = False

    @abc.abstractmethod
    def prepare(self, sde: SDE, times: Tensor) -> Sequence[Row]:
        """Return the coefficients of every step.

        Arguments:
            sde: the process.
            times: monotone times, float64 on the CPU with shape (steps + 1,).
        """

    @abc.abstractmethod
    def apply(
        self, model: Denoiser, x_t: Tensor, t: Tensor, s: Tensor, row: Row, history: History, noise: Noise
    ) -> tuple[Tensor, History]:
        """Take a step from t to s.

        Arguments:
            model: the denoiser.
            x_t: samples at time t with shape (B, *event).
            t: time before the step, float64 scalar.
            s: time after it.
            row: coefficients of the step.
            history: predictions returned by the step before.
            noise: source of noise.

        Returns:
            Samples at time s and the predictions for the next step.
        """

    def init(self, model: Denoiser, x: Tensor, times: Tensor) -> State[Row]:
        """Return the state before the first step, its coefficients computed once per grid."""
        del x
        sde = model.sde
        if not is_constant(self, sde):
            return State(0, self.prepare(sde, times), ())
        # the entry refers to both objects, so that their ids stay unique
        key = id(self), id(sde), *times.tolist()
        return State(0, _memo(key, lambda: (self, sde, self.prepare(sde, times)))[-1], ())

    def reinit(self, model: Denoiser, x: Tensor, times: Tensor, state: State[Row]) -> State[Row]:
        """Return a new state where the old one stores predictions of the replaced samples."""
        return self.init(model, x, times) if self.multistep else state

    def step(
        self, model: Denoiser, x_t: Tensor, t: Tensor, s: Tensor, state: State[Row], noise: Noise
    ) -> tuple[Tensor, State[Row]]:
        """Take a step with the coefficients of its index."""
        index, table, history = state
        x_s, history = self.apply(model, x_t, t, s, table[index], history, noise)
        return x_s, State(index + 1, table, history)

    def nfe(self, steps: int) -> int:
        """Return the number of evaluations, one per step."""
        return steps
