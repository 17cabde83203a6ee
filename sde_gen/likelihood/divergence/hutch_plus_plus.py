"""Hutch++: the exact trace where the Jacobian is large, and an estimate of the rest."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from sde_gen.likelihood.divergence.base import (
    Divergence,
    DivergenceEvaluator,
    Map,
    Probe,
    Products,
    Rademacher,
)
from sde_gen.noise import Noise
from sde_gen.utils.broadcasting import event_numel


@dataclass(frozen=True, kw_only=True)
class HutchPlusPlus(Divergence):
    r"""The exact trace on a subspace that the Jacobian stretches most, and Hutchinson's estimate on the rest.

    With S of k columns and v from the distribution of the probes, independent of each other,

    .. math::
        Q = \mathrm{orth}(J^T S), \qquad P = I - Q Q^T, \qquad
        \widehat{\mathrm{tr}} J = \mathrm{tr}(Q^T J Q) + v^T P J P v ,

    unbiased for any Q, so no gradient flows through Q. It costs 2 k products in addition to its probes, which pays if
    a few directions have most of the norm of J, as at medium noise of data with few modes; otherwise plain probes are
    better. The page "From KL to bits" of the documentation has figures.

    Source: Meyer et al., 2021, arXiv:2010.09649, algorithm 1.

    Arguments:
        sketch: dimension k of the subspace.
        probes: number of probes of the rest.
        distribution: distribution of the probes and of S.
        chunk: products made at once; more need more memory.

    Raises:
        ValueError: a number is not positive; or, when used, the samples have fewer than k dimensions.
    """

    sketch: int = 2
    probes: int = 2
    distribution: Probe = field(default_factory=Rademacher)
    chunk: int = 1

    def __post_init__(self) -> None:
        for name in ("sketch", "probes", "chunk"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")

    @property
    def num_probes(self) -> int:
        """Number of probes; their values share the exact part."""
        return self.probes

    def prepare(self, x: Tensor, noise: Noise, *, smooth: bool = True) -> DivergenceEvaluator:
        """Draw S and the probes, once for a solve."""
        del smooth
        if self.sketch > event_numel(x):
            raise ValueError(
                f"sketch={self.sketch} exceeds the {event_numel(x)} dimensions of a sample; take divergence=exact"
            )
        drawn = torch.stack([self.distribution(x, noise) for _ in range(self.sketch + self.probes)])
        return _Split(drawn[: self.sketch], drawn[self.sketch :], self.chunk)


@dataclass(frozen=True)
class _Split:
    """The trace from S with shape (k, B, *event) and probes with shape (P, B, *event)."""

    sketch: Tensor
    probes: Tensor
    chunk: int

    def __call__(self, field: Map, x: Tensor) -> tuple[Tensor, Tensor]:
        products = Products(field, x)
        image = torch.cat([products(v).detach() for v in torch.split(self.sketch, self.chunk)])
        q = torch.linalg.qr(image.flatten(2).movedim(0, 2)).Q  # (B, D, k)
        v = self.probes.flatten(2).movedim(0, 2)
        vectors = torch.cat([q, v - q @ (q.mT @ v)], dim=2).movedim(2, 0)
        vectors = vectors.reshape(len(vectors), *x.shape)
        forms = [
            (products(u) * u).flatten(2).sum(2, dtype=torch.float64) for u in torch.split(vectors, self.chunk)
        ]
        every = torch.cat(forms).T
        exact, rest = every[:, : len(self.sketch)], every[:, len(self.sketch) :]
        return products.value, exact.sum(1, keepdim=True) + rest

    def select(self, index: Tensor) -> "_Split":
        return replace(self, sketch=self.sketch[:, index], probes=self.probes[:, index])
