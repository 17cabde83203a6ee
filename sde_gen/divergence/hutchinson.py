"""Hutchinson's estimate of the divergence."""

import abc
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sde_gen._tensor import sum_event
from sde_gen.divergence.base import Divergence, FieldAndDivergence, Map
from sde_gen.noise import Noise


class Probe(abc.ABC):
    """A law of random vectors with E[v v^T] = I."""

    @abc.abstractmethod
    def __call__(self, x: Tensor, noise: Noise) -> Tensor:
        """Draw vectors like x."""


@dataclass(frozen=True, kw_only=True)
class Rademacher(Probe):
    r"""Random signs: the estimate has variance 2 (|S|^2 - sum_i S_ii^2) with S = (J + J^T) / 2."""

    def __call__(self, x: Tensor, noise: Noise) -> Tensor:
        """Signs of Gaussian numbers."""
        return torch.where(noise.fresh(x) < 0, -1.0, 1.0).to(x.dtype)


@dataclass(frozen=True, kw_only=True)
class Gaussian(Probe):
    r"""Gaussian vectors: the estimate has variance 2 |S|^2."""

    def __call__(self, x: Tensor, noise: Noise) -> Tensor:
        """Gaussian numbers."""
        return noise.fresh(x)


@dataclass(frozen=True, kw_only=True)
class Hutchinson(Divergence):
    r"""The unbiased estimate ``v^T J v`` with E[v v^T] = I, by one product with the Jacobian per probe.

    The probes are drawn once per solve, so that the field stays a smooth function of time.

    Sources: Hutchinson, 1989; Grathwohl et al., 2019, arXiv:1810.01367.

    Arguments:
        probes: number of probes; the field itself is evaluated once for all of them.
        law: their law.
    """

    probes: int = 1
    law: Probe = field(default_factory=Rademacher)

    def __post_init__(self) -> None:
        """Check the constructor's arguments."""
        if self.probes < 1:
            raise ValueError(
                f"probes={self.probes} must be at least 1; for the exact trace use divergence=exact"
            )

    def prepare(self, x: Tensor, noise: Noise) -> FieldAndDivergence:
        """Draw the probes."""
        probes = [self.law(x, noise) for _ in range(self.probes)]

        def evaluate(field: Map, x: Tensor) -> tuple[Tensor, Tensor]:
            value, product = torch.func.vjp(field, x)[:2]
            return value, torch.stack([sum_event(product(v)[0] * v) for v in probes], dim=1)

        return evaluate
