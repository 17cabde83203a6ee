"""Running integrals of functions of time, exact to rounding where the functions are smooth."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.polynomial import legendre
from torch import Tensor

DEGREE = 15
"""Degree of the polynomial that stands for a function on one panel."""


def panels(breakpoints: Sequence[float], *, uniform: int = 64, graded: int = 24) -> Tensor:
    """Edges of panels on [0, 1]: equal ones, halving ones towards 0 and towards 1, and the breakpoints.

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
        series: Legendre coefficients of the integral on each panel with shape (P, DEGREE + 2).
        errors: error of the integral over each panel with shape (P,), judged from the last coefficients.
    """

    edges: Tensor
    series: Tensor
    errors: Tensor

    @classmethod
    def of(cls, edges: Tensor, values: Tensor) -> "Integral":
        """Integrate values at the nodes, with shape (P, DEGREE + 1)."""
        nodes, weights = legendre.leggauss(DEGREE + 1)
        degrees = np.arange(DEGREE + 1)
        project = (degrees[:, None] + 0.5) * legendre.legvander(nodes, DEGREE).T * weights
        half = 0.5 * torch.diff(edges).numpy()[:, None]
        series = values.numpy() @ project.T
        tail = half * np.abs(series[:, -2:]).sum(1, keepdims=True)
        integrated = half * legendre.legint(series, lbnd=-1, axis=1)
        return cls(edges, torch.from_numpy(integrated), torch.from_numpy(tail[:, 0]))

    def __call__(self, panel: Tensor, t: Tensor) -> Tensor:
        """Integral from the left edge of the panel to t, float64 with the shape of both."""
        left, right = self.edges[:-1].to(t.device)[panel], self.edges[1:].to(t.device)[panel]
        z = (2 * t - left - right) / (right - left)
        series = self.series.to(t.device)[panel]
        last, value = torch.zeros_like(t), torch.zeros_like(t)  # Clenshaw's recurrence
        for n in range(series.shape[-1] - 1, -1, -1):
            last, value = value, series[..., n] + (2 * n + 1) / (n + 1) * z * value - (n + 1) / (n + 2) * last
        return value

    def totals(self) -> Tensor:
        """Integrals over whole panels with shape (P,): the series at 1, where every polynomial is 1."""
        return self.series.sum(1)


def nodes(edges: Tensor) -> Tensor:
    """Times with shape (P, DEGREE + 1) at which functions must be known."""
    z = torch.from_numpy(legendre.leggauss(DEGREE + 1)[0])
    return edges[:-1, None] + 0.5 * torch.diff(edges)[:, None] * (1 + z)


def locate(edges: Tensor, t: Tensor) -> Tensor:
    """Index of the panel of each time; times outside [0, 1] get the first or the last."""
    where = t.detach().contiguous()
    return torch.searchsorted(edges.to(t.device), where, right=True).sub(1).clamp(0, len(edges) - 2)
