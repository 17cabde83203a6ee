"""Multistep solvers of the probability flow whose weights can be chosen."""

from dataclasses import dataclass
from typing import ClassVar

from sde_gen.solver._integrals import FlowIntegral
from sde_gen.solver._multistep import MultistepSolver, Row, adams_rows
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

    def rows(self, form: FlowIntegral, steps: int) -> list[Row]:
        """The coefficients of all steps."""
        if self.weights is None:
            return adams_rows(form, min(self.points, steps + 1), steps)
        return self.weights.rows(form, self.points, steps)
