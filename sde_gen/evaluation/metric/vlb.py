"""Bits per dimension of the ancestral chain."""

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from sde_gen.evaluation.metric.data_term import BoundMetric, DataTerm, DiscreteData, ReconstructionInputs
from sde_gen.grid import Grid
from sde_gen.likelihood import discrete_vlb
from sde_gen.noise import Noise


@dataclass(frozen=True, kw_only=True)
class ChainBound(BoundMetric):
    """An upper bound on the code length of the data under the chain of finitely many ancestral steps.

    Source: Ho et al., 2020, arXiv:2006.11239, section 3.

    Arguments:
        grid: rule for the times.
        steps: number of steps.
        nu: variance of the steps, 0 the posterior's and 1 the transition's; None if the network predicts it.
        repeats: independent draws of all terms.
        data_term: data term at t_min.
    """

    grid: Grid
    steps: int = 100
    nu: float | None = 1.0
    repeats: int = 1
    data_term: DataTerm = field(default_factory=DiscreteData)
    what: ClassVar[str] = "ancestral chain, upper bound (finitely many steps)"

    def evaluate(self, inputs: ReconstructionInputs, noise: Noise) -> tuple[Tensor, Tensor]:
        """Return the bound in nats and its standard error."""
        model, x0, _, decoder = inputs
        times = self.grid(model.sde, self.steps)
        bound = discrete_vlb(model, x0, times, decoder=decoder, noise=noise, nu=self.nu, repeats=self.repeats)
        return bound.nats, bound.se
