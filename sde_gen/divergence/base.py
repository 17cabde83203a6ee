"""The abstract divergence of a vector field."""

import abc
from collections.abc import Callable

from torch import Tensor

from sde_gen.noise import Noise

Map = Callable[[Tensor], Tensor]
"""A field at one time: (B, *event) to (B, *event), every sample by itself."""

FieldAndDivergence = Callable[[Map, Tensor], tuple[Tensor, Tensor]]
"""Evaluates a field and its divergence: shapes (B, *event) and (B, P), one column per probe."""


class Divergence(abc.ABC):
    """A way to compute or estimate the trace of the Jacobian of a field."""

    @abc.abstractmethod
    def prepare(self, x: Tensor, noise: Noise) -> FieldAndDivergence:
        """Draw what is random once, for a whole solve, and return the evaluation.

        Arguments:
            x: samples with shape (B, *event).
            noise: source of the probes.
        """
