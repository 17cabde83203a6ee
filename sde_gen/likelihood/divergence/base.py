"""The abstract divergence of a vector field."""

import abc
from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from sde_gen.noise import Noise
from sde_gen.utils.arguments import Checked

Map = Callable[[Tensor], Tensor]
"""A field at one time: (B, *event) to (B, *event), every sample by itself."""


class Evaluation(Protocol):
    """Evaluates fields and their divergences with what was drawn for the samples of a batch."""

    def __call__(self, field: Map, x: Tensor) -> tuple[Tensor, Tensor]:
        """The field at x, and its divergence: float64 with shape (B, P), one column per probe."""
        ...

    def select(self, index: Tensor) -> "Evaluation":
        """Go on with the samples ``index`` with shape (b,) only."""
        ...


class Divergence(Checked, abc.ABC):
    """A way to compute or estimate the trace of the Jacobian of a field.

    The field is evaluated once, and what is differentiated is kept for all products with the Jacobian. Gradients flow
    to x and to the parameters of the field; under ``torch.no_grad()`` no graph is retained.
    """

    @property
    @abc.abstractmethod
    def num_probes(self) -> int:
        """Number P of unbiased values that it returns for every sample."""

    @property
    def random(self) -> bool:
        """True for stochastic estimates with random probes, False for the exact divergence."""
        return True

    def with_fixed_probes(self) -> "Divergence":
        """The same with probes drawn once for a solve, so that two solves with the same ones can be compared."""
        return self

    @abc.abstractmethod
    def prepare(self, x: Tensor, noise: Noise, *, smooth: bool = True) -> Evaluation:
        """Get ready for a solve.

        Arguments:
            x: samples with shape (B, *event).
            noise: source of the probes.
            smooth: whether all evaluations have to belong to one smooth field, as methods need that choose their steps.
        """
