"""Abstract base class of divergences of a vector field."""

import abc
from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from sde_gen.noise import Noise
from sde_gen.utils.arguments import Checked

Map = Callable[[Tensor], Tensor]
"""Field at a fixed time, (B, *event) to (B, *event), independently for each sample."""


class Evaluation(Protocol):
    """Evaluator of fields and their divergences, with the probes drawn for a batch."""

    def __call__(self, field: Map, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the field at x, and its divergence, float64 with shape (B, P), one column per probe."""
        ...

    def select(self, index: Tensor) -> "Evaluation":
        """Return the evaluator of the samples ``index`` with shape (b,)."""
        ...


class Divergence(Checked, abc.ABC):
    """Method that computes or estimates the trace of the Jacobian of a field.

    The field is evaluated once, and what is differentiated is kept for all products with the Jacobian. Gradients flow
    to x and to the parameters of the field; under ``torch.no_grad()`` no graph is retained.
    """

    @property
    @abc.abstractmethod
    def num_probes(self) -> int:
        """Return the number P of unbiased values per sample."""

    @property
    def random(self) -> bool:
        """True for stochastic estimates with random probes, False for the exact divergence."""
        return True

    def with_fixed_probes(self) -> "Divergence":
        """Return the method with probes drawn once per solve, so that two solves can be compared."""
        return self

    @abc.abstractmethod
    def prepare(self, x: Tensor, noise: Noise, *, smooth: bool = True) -> Evaluation:
        """Prepare a solve.

        Arguments:
            x: samples with shape (B, *event).
            noise: source of the probes.
            smooth: whether the field must be smooth over the solve, as adaptive integrators need.
        """
