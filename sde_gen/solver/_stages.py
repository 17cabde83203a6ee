"""Singlestep solvers: stages that are linear in x_t and in the predictions of the step."""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.denoiser.prediction import Prediction
from sde_gen.noise import Noise
from sde_gen.solver._table import History, TableSolver


class Stage(NamedTuple):
    r"""An evaluation and the sample after it, a combination of the step's evaluations so far.

    .. math::
        m_k = a\, \hat{x}_0 + b\, \hat\epsilon, \qquad x_{k+1} = a\, x_t + \sum_{j \le k} w_j m_j

    Arguments:
        t: time of the evaluation, float64 with shape ().
        x0: a.
        eps: b.
        x_coef: factor of the sample before the step.
        weights: w, one for each evaluation of the step so far.
    """

    t: Tensor
    x0: float
    eps: float
    x_coef: float
    weights: Sequence[float]

    def value(self, prediction: Prediction) -> Tensor:
        """The m_k of a prediction with shape (B, *event)."""
        if self.eps == 0 and self.x0 == 1:
            return prediction.x0
        if self.x0 == 0 and self.eps == 1:
            return prediction.eps
        return (self.eps * prediction.eps).add_(prediction.x0, alpha=self.x0)

    def apply(self, x_t: Tensor, values: Sequence[Tensor]) -> Tensor:
        """Return the sample after this evaluation, from the values so far."""
        x = self.x_coef * x_t
        for weight, value in zip(self.weights, values, strict=True):
            if weight:
                x.add_(value, alpha=weight)
        return x


class SinglestepSolver(TableSolver[list[Stage]]):
    """A deterministic Runge-Kutta method, exponential or not, in precomputed stages."""

    stochastic: ClassVar[bool] = False
    stages: ClassVar[int]

    def apply(
        self,
        model: Denoiser,
        x_t: Tensor,
        t: Tensor,
        s: Tensor,
        row: list[Stage],
        history: History,
        noise: Noise,
    ) -> tuple[Tensor, History]:
        """Evaluate the stages, the last of which ends at s."""
        del t, s, noise
        values: list[Tensor] = []
        x = x_t
        for stage in row:
            values.append(stage.value(model(x, stage.t)))
            x = stage.apply(x_t, values)
        return x, history

    def nfe(self, steps: int) -> int:
        """The same number of evaluations in every step."""
        return self.stages * steps
