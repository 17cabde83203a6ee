"""The exact divergence."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen._tensor import event_dim
from sde_gen.divergence.base import Divergence, FieldAndDivergence, Map
from sde_gen.noise import Noise


@dataclass(frozen=True, kw_only=True)
class Exact(Divergence):
    """The sum of all diagonal elements of the Jacobian, by D products with unit vectors.

    Arguments:
        chunk: products made at once; more need more memory.
    """

    chunk: int = 32

    def __post_init__(self) -> None:
        """Check the constructor's arguments."""
        if self.chunk < 1:
            raise ValueError(f"chunk={self.chunk} must be at least 1")

    def prepare(self, x: Tensor, noise: Noise) -> FieldAndDivergence:
        """Nothing is random."""
        del x, noise
        return self._evaluate

    def _evaluate(self, field: Map, x: Tensor) -> tuple[Tensor, Tensor]:
        value, products = torch.func.vjp(field, x)[:2]
        dim = event_dim(x)
        divergence = x.new_zeros(len(x))
        for start in range(0, dim, self.chunk):
            rows = torch.arange(start, min(start + self.chunk, dim), device=x.device)
            units = torch.nn.functional.one_hot(rows, dim).to(x.dtype)
            batch = units.reshape(len(rows), 1, *x.shape[1:]).expand(len(rows), *x.shape)
            (jacobian,) = torch.func.vmap(products)(batch)
            divergence = divergence + (jacobian * batch).flatten(2).sum((0, 2))
        return value, divergence.unsqueeze(1)
