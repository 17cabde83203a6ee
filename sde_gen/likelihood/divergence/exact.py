"""Exact divergence by products with unit vectors."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.likelihood.divergence.base import Divergence, DivergenceEvaluator, Map, Products
from sde_gen.noise import Noise
from sde_gen.utils.broadcasting import event_numel


@dataclass(frozen=True, kw_only=True)
class Exact(Divergence):
    """The sum of all diagonal elements of the Jacobian, by D products with unit vectors.

    Arguments:
        chunk: products made at once; more need more memory.

    Raises:
        ValueError: chunk is not positive.
    """

    chunk: int = 32

    def __post_init__(self) -> None:
        if self.chunk < 1:
            raise ValueError(f"chunk={self.chunk} must be at least 1")

    @property
    def num_probes(self) -> int:
        """Return 1, for the divergence itself."""
        return 1

    @property
    def random(self) -> bool:
        """Return False, because the divergence is exact."""
        return False

    def prepare(self, x: Tensor, noise: Noise, *, smooth: bool = True) -> DivergenceEvaluator:
        """Return the evaluation of the full trace, without probes."""
        del x, noise, smooth
        return _Diagonal(self.chunk)


@dataclass(frozen=True)
class _Diagonal:
    """The sum of the diagonal, ``chunk`` elements at a time."""

    chunk: int

    def __call__(self, field: Map, x: Tensor) -> tuple[Tensor, Tensor]:
        products, dim, divergence = (
            Products(field, x),
            event_numel(x),
            torch.zeros(len(x), dtype=torch.float64, device=x.device),
        )
        for start in range(0, dim, self.chunk):
            rows = torch.arange(start, min(start + self.chunk, dim), device=x.device)
            units = torch.nn.functional.one_hot(rows, dim).to(x.dtype)
            batch = units.reshape(len(rows), 1, *x.shape[1:]).expand(len(rows), *x.shape)
            divergence = divergence + (products(batch) * batch).flatten(2).sum((0, 2), dtype=torch.float64)
        return products.value, divergence.unsqueeze(1)

    def select(self, index: Tensor) -> "_Diagonal":
        del index
        return self
