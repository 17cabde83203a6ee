"""What singlestep solvers share: stages that are linear in x_t and in predictions, made before the first step."""

import abc
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.denoiser.prediction import Prediction
from sde_gen.noise import Noise
from sde_gen.sde.base import SDE
from sde_gen.solver.base import StepSolver


class Stage(NamedTuple):
    r"""An evaluation, and the sample that follows from it and from the step's earlier ones.

    .. math::
        m_k = a\, \hat{x}_0 + b\, \hat\epsilon, \qquad x_{k+1} = \mathrm{keep}\, x_t + \sum_{j \le k} w_j m_j

    Arguments:
        t: time of the evaluation, float64 with shape ().
        x0: a.
        eps: b.
        keep: factor of the sample before the step.
        weights: w, one for each evaluation of the step so far.
    """

    t: Tensor
    x0: float
    eps: float
    keep: float
    weights: Sequence[float]

    def value(self, prediction: Prediction) -> Tensor:
        """The m_k of a prediction with shape (B, *event)."""
        if self.eps == 0 and self.x0 == 1:
            return prediction.x0
        if self.x0 == 0 and self.eps == 1:
            return prediction.eps
        return (self.eps * prediction.eps).add_(prediction.x0, alpha=self.x0)

    def follow(self, x_t: Tensor, values: Sequence[Tensor]) -> Tensor:
        """The sample that follows from the values so far."""
        x = self.keep * x_t
        for weight, value in zip(self.weights, values, strict=True):
            if weight:
                x.add_(value, alpha=weight)
        return x


class Walk(NamedTuple):
    """The number of the step to come, and the stages of all steps."""

    number: int
    steps: list[list[Stage]]


class SinglestepSolver(StepSolver[Walk]):
    """A deterministic solver that forgets, after a step, all but the sample."""

    stochastic: ClassVar[bool] = False
    stages: ClassVar[int]

    @abc.abstractmethod
    def plan(self, sde: SDE, times: Tensor) -> list[list[Stage]]:
        """The stages of every step on a grid, the last of which ends in x_s."""

    def init(self, model: Denoiser, x: Tensor, times: Tensor) -> Walk:
        """Make all coefficients."""
        del x
        steps = self.plan(model.sde, times)
        model.precompute(torch.stack([stage.t for stages in steps for stage in stages]))
        return Walk(0, steps)

    def reinit(self, model: Denoiser, x: Tensor, times: Tensor, state: Walk) -> Walk:
        """Go on: the state holds no samples."""
        del model, x, times
        return state

    def step(
        self, model: Denoiser, x_t: Tensor, t: Tensor, s: Tensor, state: Walk, noise: Noise
    ) -> tuple[Tensor, Walk]:
        """One step."""
        del t, s, noise
        values: list[Tensor] = []
        x = x_t
        for stage in state.steps[state.number]:
            values.append(stage.value(model(x, stage.t)))
            x = stage.follow(x_t, values)
        return x, Walk(state.number + 1, state.steps)

    def nfe(self, steps: int) -> int:
        """The same number of evaluations in every step."""
        return self.stages * steps
