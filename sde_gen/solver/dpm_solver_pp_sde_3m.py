"""SDE-DPM-Solver++ (3M)."""

from dataclasses import dataclass
from typing import ClassVar

from sde_gen.solver._multistep import Row, adams_rows
from sde_gen.solver._reverse_multistep import ReverseForm, ReverseMultistep


@dataclass(frozen=True, kw_only=True)
class DPMSolverPPSDE3M(ReverseMultistep):
    r"""The three-step exponential integrator of the reverse SDE in data prediction.

    The clean sample along the step is the parabola through three predictions, integrated exactly. The second step
    first corrects the first by the prediction at its end, which it has paid for anyway. So the mean given the start
    is of order 3; the covariance stays of order 2, for the last prediction does not know of the last step's noise,
    and 2 is declared where there is noise.

    Source: Lu et al., 2022, arXiv:2211.01095, section 6, with the weights of exponential Adams methods
    (:mod:`sde_gen.solver._reverse_multistep`).

    Arguments:
        eta: 0 is the probability flow, of order 3; 1 the reverse of the forward process.
        weights: a rule for the weights, such as :class:`~sde_gen.solver.multistep_weights.TaylorWeights` for the
            authors'; None: this package's, limited in long steps and with a corrected start.

    Raises:
        ValueError: eta is negative or not finite.
    """

    points: ClassVar[int] = 3

    @property
    def order(self) -> int:
        """3 without noise, else 2; what other weights leave of it."""
        return 2 if self.eta > 0 else 3 if self.weights is None else self.weights.order(self.points)

    def rows(self, form: ReverseForm, steps: int) -> list[Row]:
        """The coefficients of all steps."""
        return adams_rows(form, min(3, steps + 1), steps)
