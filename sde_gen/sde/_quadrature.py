"""Running integrals of functions of time, exact to rounding where the functions are smooth."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.polynomial import legendre
from numpy.typing import NDArray
from torch import Tensor

DEGREE = 15
"""Degree of the polynomial that stands for a function on one panel."""

EXPONENTS = torch.arange(DEGREE + 1, -1, -1, dtype=torch.float64)
"""Powers of its integral, from the highest down."""


def panels(breakpoints: Sequence[float], *, uniform: int = 64, graded: int = 24) -> Tensor:
    """Edges of panels on [0, 1]: equal ones, halving ones toward 0 and toward 1, and the breakpoints.

    The halving resolves what functions do near the ends, and gives integrals from 0 their relative accuracy
    at small times.
    """
    halves = [0.5**k for k in range(1, graded)]
    edges = {*np.linspace(0, 1, uniform + 1).tolist(), *halves, *(1 - half for half in halves), *breakpoints}
    return torch.tensor(sorted(edges), dtype=torch.float64)


@dataclass(frozen=True)
class Integral:
    """Integral from the left edge of a panel to t, for functions given at :func:`nodes` of all panels.

    Arguments:
        edges: edges of the panels with shape (P + 1,).
        powers: coefficients of the integral in powers of z, which goes from -1 to 1 on each panel, from the highest
            down, with shape (DEGREE + 2, P). Those of a function that is smooth enough for a panel fall faster than
            the change from Legendre's polynomials makes them grow, by 1 + sqrt(2) a degree.
        errors: error of the integral over each panel with shape (P,), judged from the last coefficients.
    """

    edges: Tensor
    powers: Tensor
    errors: Tensor

    @classmethod
    def of(cls, edges: Tensor, values: Tensor) -> "Integral":
        """Integrate values at the nodes, with shape (P, DEGREE + 1)."""
        half = 0.5 * torch.diff(edges).numpy()[:, None]
        series = values.numpy() @ _projection().T
        tail = half * np.abs(series[:, -2:]).sum(1, keepdims=True)
        powers = _powers().T @ (half * legendre.legint(series, lbnd=-1, axis=1)).T
        return cls(edges, torch.from_numpy(powers), torch.from_numpy(tail[:, 0]))

    def __call__(self, panel: Tensor, t: Tensor) -> Tensor:
        """Integral from the left edge of the panel to t, float64 with the shape of both."""
        left, right = self.edges[:-1].to(t.device)[panel], self.edges[1:].to(t.device)[panel]
        z = (2 * t - left - right) / (right - left)
        powers = self.powers.to(t.device)[:, panel]
        return (powers * z ** EXPONENTS.to(t.device).reshape(-1, *[1] * t.ndim)).sum(0)

    def totals(self) -> Tensor:
        """Integrals over whole panels with shape (P,): the polynomials at 1."""
        return self.powers.sum(0)


@cache
def _projection() -> NDArray[np.float64]:
    """From values at the nodes of a panel to coefficients of Legendre's polynomials, (DEGREE + 1, DEGREE + 1)."""
    nodes, weights = legendre.leggauss(DEGREE + 1)
    degrees = np.arange(DEGREE + 1)
    return np.asarray((degrees[:, None] + 0.5) * legendre.legvander(nodes, DEGREE).T * weights)


@cache
def _powers() -> NDArray[np.float64]:
    """Legendre's polynomials, one a row, in powers of z from the highest down, (DEGREE + 2, DEGREE + 2)."""
    rows = [legendre.leg2poly(unit) for unit in np.eye(DEGREE + 2)]
    return np.stack([np.pad(row, (0, DEGREE + 2 - len(row)))[::-1] for row in rows])


def nodes(edges: Tensor) -> Tensor:
    """Times with shape (P, DEGREE + 1) at which functions must be known."""
    z = torch.from_numpy(legendre.leggauss(DEGREE + 1)[0])
    return edges[:-1, None] + 0.5 * torch.diff(edges)[:, None] * (1 + z)


def locate(edges: Tensor, t: Tensor) -> Tensor:
    """Index of the panel of each time; times outside [0, 1] get the first or the last."""
    where = t.detach().contiguous()
    return torch.searchsorted(edges.to(t.device), where, right=True).sub(1).clamp(0, len(edges) - 2)
