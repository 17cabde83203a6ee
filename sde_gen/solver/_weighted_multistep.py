"""Multistep solvers of the probability flow whose weights can be chosen."""

from dataclasses import dataclass
from typing import ClassVar

from sde_gen.solver._integrals import FlowIntegral
from sde_gen.solver._multistep import MultistepSolver, StepCoefficients, adams_coefficients
from sde_gen.solver.multistep_weights import MultistepWeights


@dataclass(frozen=True, kw_only=True)
class WeightedMultistep(MultistepSolver):
    """A multistep solver with limited weights and a corrected start, or with published weights.

    Arguments:
        weights: a published rule for the weights; None: this package's.
    """

    weights: MultistepWeights | None = None
    points: ClassVar[int]

    @property
    def order(self) -> int:
        """The number of predictions, or the order of the weights."""
        return self.points if self.weights is None else self.weights.order(self.points)

    def coefficients(self, integral: FlowIntegral, steps: int) -> list[StepCoefficients]:
        """Return the coefficients of every step."""
        if self.weights is None:
            return adams_coefficients(integral, min(self.points, steps + 1), steps)
        return self.weights.coefficients(integral, self.points, steps)
