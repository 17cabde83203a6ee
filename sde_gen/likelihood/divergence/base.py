"""Abstract base class of divergences of a vector field."""

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sde_gen.noise import Noise
from sde_gen.utils.arguments import Checked

Map = Callable[[Tensor], Tensor]
"""Field at a fixed time, (B, *event) to (B, *event), independently for each sample."""


class DivergenceEvaluator(Protocol):
    """Evaluator of fields and their divergences, with the probes drawn for a batch."""

    def __call__(self, field: Map, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the field at x, and its divergence, float64 with shape (B, P), one column per probe."""
        ...

    def select(self, index: Tensor) -> "DivergenceEvaluator":
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
    def prepare(self, x: Tensor, noise: Noise, *, smooth: bool = True) -> DivergenceEvaluator:
        """Prepare a solve.

        Arguments:
            x: samples with shape (B, *event).
            noise: source of the probes.
            smooth: whether the field must be smooth over the solve, as adaptive integrators need.
        """


class Products:
    """A field at x, and the products ``v^T J`` there.

    One evaluation with one product costs 2 to 2.9 evaluations of our networks on a CPU, another product one more.

    Arguments:
        field: the field.
        x: samples with shape (B, *event).

    Attributes:
        value: the field at x, with shape (B, *event).
    """

    def __init__(self, field: Map, x: Tensor) -> None:
        self.value, self._vjp = torch.func.vjp(field, x)[:2]

    def __call__(self, vectors: Tensor) -> Tensor:
        """Products of vectors with shape (n, B, *event), with the same shape; n > 1 are made at once."""
        products: Tensor
        if len(vectors) == 1:  # fields that cannot be batched are differentiable still
            (products,) = self._vjp(vectors[0])
            return products.unsqueeze(0)
        (products,) = torch.func.vmap(self._vjp)(vectors)
        return products


class Probe(Checked, abc.ABC):
    """A distribution of random vectors with E[v v^T] = I."""

    @abc.abstractmethod
    def __call__(self, x: Tensor, noise: Noise) -> Tensor:
        """Draw vectors like x."""


@dataclass(frozen=True, kw_only=True)
class Rademacher(Probe):
    r"""Random signs: the estimate has variance 2 (|S|^2 - sum_i S_ii^2) with S = (J + J^T) / 2."""

    def __call__(self, x: Tensor, noise: Noise) -> Tensor:
        """Signs of Gaussian numbers."""
        return torch.where(noise.normal(x) < 0, -1.0, 1.0).to(x.dtype)


@dataclass(frozen=True, kw_only=True)
class GaussianProbe(Probe):
    r"""Gaussian vectors: the estimate has variance 2 |S|^2."""

    def __call__(self, x: Tensor, noise: Noise) -> Tensor:
        """Draw v ~ N(0, I) with the shape of x."""
        return noise.normal(x)
