"""One-step stochastic solvers, linear in the sample, the prediction and the noise."""

import abc
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.noise import Noise
from sde_gen.sde.base import SDE
from sde_gen.solver._table import History, TableSolver
from sde_gen.solver._validation import require_eta


class LinearStepCoefficients(NamedTuple):
    """``x_s = x x_t + x0 hat x_0 + eps hat eps + noise z``, with numbers or tensors (steps,)."""

    x: float | Tensor = 1.0
    x0: float | Tensor = 0.0
    eps: float | Tensor = 0.0
    noise: float | Tensor = 0.0


Row = tuple[float, float, float, float]
"""Numbers (x, x0, eps, noise) of a step."""


class LinearSolver(TableSolver[Row]):
    """A solver with one evaluation a step, linear in x, the prediction and the noise."""

    @abc.abstractmethod
    def coefficients(self, sde: SDE, t: Tensor, s: Tensor) -> LinearStepCoefficients:
        """Coefficients of the steps from t to s, both with shape (steps,)."""

    def prepare(self, sde: SDE, times: Tensor) -> list[Row]:
        """Return the coefficients of every step."""
        t, s = times[:-1], times[1:]
        columns = (torch.as_tensor(column).double().cpu() for column in self.coefficients(sde, t, s))
        return list(zip(*(column.expand(len(t)).tolist() for column in columns), strict=True))

    def apply(
        self, model: Denoiser, x_t: Tensor, t: Tensor, s: Tensor, row: Row, history: History, noise: Noise
    ) -> tuple[Tensor, History]:
        """Combine the sample, the prediction and noise."""
        x, x0, eps, std = row
        prediction = model(x_t, t)
        x_s = x_t.clone() if x == 1 else x * x_t
        if x0:
            x_s.add_(prediction.x0, alpha=x0)
        if eps:
            x_s.add_(prediction.eps, alpha=eps)
        if std:
            x_s.add_(noise(x_t, float(t), float(s)), alpha=std)
        return x_s, history


@dataclass(frozen=True, kw_only=True)
class ReverseSDESolver(LinearSolver):
    """A first-order solver of the reverse SDE of strength eta.

    Arguments:
        eta: 0 is the probability flow, 1 the reverse of the forward process.

    Raises:
        ValueError: eta is negative or not finite.
    """

    eta: float = 1.0
    order: ClassVar[int] = 1

    def __post_init__(self) -> None:
        require_eta(self.eta)

    @property
    def stochastic(self) -> bool:
        """True if eta is positive."""
        return self.eta > 0
