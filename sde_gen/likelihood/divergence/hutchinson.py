"""Hutchinson's estimate of the divergence."""

from collections.abc import Callable
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


@dataclass(frozen=True, kw_only=True)
class Hutchinson(Divergence):
    r"""The unbiased estimate ``v^T J v`` with E[v v^T] = I, by one product with the Jacobian per probe.

    The field is evaluated once for all probes. The errors of probes that are redrawn at every evaluation average out
    over a solve. Adaptive integrators need a smooth function of time, for which probes are drawn once per solve; their
    errors are then correlated over time.

    Sources: Hutchinson, 1989; Grathwohl et al., 2019, arXiv:1810.01367, section 3.1 (fixed probes).

    Arguments:
        probes: number of probes.
        distribution: distribution of the probes.
        fresh: whether to redraw probes at every evaluation; None does so unless the integrator is adaptive.
        chunk: number of products computed at once; more need more memory, and are not faster on a CPU.

    Raises:
        ValueError: probes or chunk is not positive; or, when used, fresh probes meet a method that chooses its steps.
    """

    probes: int = 1
    distribution: Probe = field(default_factory=Rademacher)
    fresh: bool | None = None
    chunk: int = 1

    def __post_init__(self) -> None:
        if self.probes < 1:
            raise ValueError(
                f"probes={self.probes} must be at least 1; for the exact trace use divergence=exact"
            )
        if self.chunk < 1:
            raise ValueError(f"chunk={self.chunk} must be at least 1")

    @property
    def num_probes(self) -> int:
        """Number of probes, each of which gives a value."""
        return self.probes

    def with_fixed_probes(self) -> "Hutchinson":
        """Return the estimator with the same probes for a whole solve."""
        return replace(self, fresh=False)

    def prepare(self, x: Tensor, noise: Noise, *, smooth: bool = True) -> DivergenceEvaluator:
        """Draw the probes, once for the solve or at every evaluation."""
        if self.fresh and smooth:
            raise ValueError(
                "fresh=true: fresh probes at every evaluation are noise to a method that chooses its steps; take fixed "
                "steps (integrator=adams), or probes for a whole solve (fresh=false)"
            )
        if not smooth and self.fresh is not False:
            return _Fresh(lambda: self._draw(x, noise))
        return self._draw(x, noise)

    def _draw(self, x: Tensor, noise: Noise) -> "_Quadratic":
        return _Quadratic(torch.stack([self.distribution(x, noise) for _ in range(self.probes)]), self.chunk)


@dataclass(frozen=True)
class _Quadratic:
    """The forms ``v^T J v`` of vectors with shape (P, B, *event)."""

    vectors: Tensor
    chunk: int

    def __call__(self, field: Map, x: Tensor) -> tuple[Tensor, Tensor]:
        products = Products(field, x)
        forms = [
            (products(v) * v).flatten(2).sum(2, dtype=torch.float64)
            for v in torch.split(self.vectors, self.chunk)
        ]
        return products.value, torch.cat(forms).T

    def select(self, index: Tensor) -> "_Quadratic":
        return replace(self, vectors=self.vectors[:, index])


@dataclass(frozen=True)
class _Fresh:
    """The forms of new vectors at every evaluation."""

    draw: Callable[[], _Quadratic]

    def __call__(self, field: Map, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.draw()(field, x)

    def select(self, index: Tensor) -> "_Fresh":
        """Select the samples after drawing for the whole batch, so that a sample's probes do not depend on it."""
        return _Fresh(lambda: self.draw().select(index))
