"""Multistep solvers of the probability flow whose weights can be chosen."""

from dataclasses import dataclass
from typing import ClassVar

from sde_gen.solver._integrals import FlowIntegral
from sde_gen.solver._multistep import MultistepSolver, StepCoefficients, adams_coefficients
from sde_gen.solver.multistep_weights import MultistepWeights


@dataclass(frozen=True, kw_only=True)
class WeightedMultistep(MultistepSolver):
    """A multistep solver with weights of its own, limited and with a corrected start, or with published ones.

    Arguments:
        weights: a rule for the weights, as its authors have them; None: this package's.
    """

    weights: MultistepWeights | None = None
    points: ClassVar[int]

    @property
    def order(self) -> int:
        """The number of predictions, or what the weights leave of it."""
        return self.points if self.weights is None else self.weights.order(self.points)

    def coefficients(self, integral: FlowIntegral, steps: int) -> list[StepCoefficients]:
        """The coefficients of all steps."""
        if self.weights is None:
            return adams_coefficients(integral, min(self.points, steps + 1), steps)
        return self.weights.coefficients(integral, self.points, steps)
