"""What the one-step stochastic solvers share: a step that is linear in x, the prediction and the noise."""

import abc
from typing import NamedTuple

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.noise import Noise
from sde_gen.sde.base import SDE
from sde_gen.solver.base import StepSolver


class Coefficients(NamedTuple):
    """``x_s = x x_t + x0 hat x_0 + eps hat eps + noise z``, of one step or, as tensors (steps,), of all."""

    x: float | Tensor = 1.0
    x0: float | Tensor = 0.0
    eps: float | Tensor = 0.0
    noise: float | Tensor = 0.0


class Walk(NamedTuple):
    """The number of the step to come, and the coefficients of all: (x, x0, eps, noise) a step."""

    number: int
    rows: list[list[float]]


class LinearSolver(StepSolver[Walk]):
    """A solver with one evaluation a step, whose coefficients depend on the grid alone and are made at once."""

    @abc.abstractmethod
    def coefficients(self, sde: SDE, t: Tensor, s: Tensor) -> Coefficients:
        """Coefficients of the steps from t to s, both with shape (steps,)."""

    def init(self, model: Denoiser, x: Tensor, times: Tensor) -> Walk:
        """Make all coefficients."""
        del x
        t, s = times[:-1], times[1:]
        columns = [torch.as_tensor(column).expand(len(t)) for column in self.coefficients(model.sde, t, s)]
        return Walk(0, torch.stack([column.double().cpu() for column in columns], dim=1).tolist())

    def reinit(self, model: Denoiser, x: Tensor, times: Tensor, state: Walk) -> Walk:
        """Go on: the state holds no samples."""
        del model, x, times
        return state

    def step(
        self, model: Denoiser, x_t: Tensor, t: Tensor, s: Tensor, state: Walk, noise: Noise
    ) -> tuple[Tensor, Walk]:
        """One step."""
        number, rows = state
        x, x0, eps, std = rows[number]
        prediction = model(x_t, t)
        x_s = x_t.clone() if x == 1 else x * x_t
        if x0:
            x_s.add_(prediction.x0, alpha=x0)
        if eps:
            x_s.add_(prediction.eps, alpha=eps)
        if std:
            x_s.add_(noise(x_t, float(t), float(s)), alpha=std)
        return x_s, Walk(number + 1, rows)

    def nfe(self, steps: int) -> int:
        """One evaluation a step."""
        return steps
