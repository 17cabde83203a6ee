r"""Weights of multistep methods: integrals of the polynomial through values at nodes.

.. math::
    w_j = \int k(u)\, \ell_j(u)\, du, \qquad \ell_j(u) = \prod_{i \ne j} \frac{u - u_i}{u_j - u_i}

Everything here is float64 on the host, made once per grid; R rows are made at once.

Source: Hairer, Norsett and Wanner, 1993, Solving Ordinary Differential Equations I, section III.5.
"""

from collections.abc import Callable

import torch
from numpy.polynomial import legendre
from torch import Tensor

_U, _DU = (torch.from_numpy(a) for a in legendre.leggauss(32))
"""Gauss-Legendre rule on [-1, 1]: exact to rounding for e^u times a cubic on intervals of length 40."""


def quadrature(start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """Return points and weights of integrals: (R,), (R,) -> (R, Q), (R, Q); weights have the sign of end - start."""
    half = (0.5 * (end - start)).unsqueeze(-1)
    return start.unsqueeze(-1) + half * (1 + _U), half * _DU


def lagrange(nodes: Tensor, u: Tensor) -> Tensor:
    """Evaluate the polynomials that are 1 at one node and 0 at the others.

    Arguments:
        nodes: distinct nodes with shape (R, k); NaN where a row has fewer.
        u: points with shape (R, Q).

    Returns:
        Their values with shape (R, Q, k), 0 for nodes that are not there.
    """
    k = nodes.shape[1]
    others = torch.tensor([[i for i in range(k) if i != j] for j in range(k)], dtype=torch.long)  # (k, k - 1)
    missing, away = nodes.isnan(), nodes[:, others]
    ratios = (u[:, :, None, None] - away[:, None]) / (nodes.unsqueeze(-1) - away)[:, None]
    return ratios.masked_fill(missing[:, None, others], 1).prod(-1).masked_fill(missing[:, None], 0)


def adams_weights(kernel: Callable[[Tensor], Tensor], nodes: Tensor, start: Tensor, end: Tensor) -> Tensor:
    r"""Return the weights ``w_j = int_start^end kernel(u) l_j(u) du``, with shape (R, k).

    Arguments:
        kernel: smooth function of u with shape (R, Q), all in the variable of the polynomials.
        nodes: nodes with shape (R, k); NaN where a row has fewer.
        start: lower ends with shape (R,).
        end: upper ends with shape (R,).
    """
    u, du = quadrature(start, end)
    return torch.einsum("rq,rqk->rk", kernel(u) * du, lagrange(nodes, u))


def node_indices(newest: Tensor, count: int) -> Tensor:
    """Return indices of nodes, newest first, with shape (R, count): ``newest - j``, and -1 before the grid's begin."""
    return (newest.unsqueeze(-1) - torch.arange(count)).clamp(min=-1)


def values_at(values: Tensor, index: Tensor) -> Tensor:
    """Pick values along a grid by index; NaN where the index is -1."""
    return torch.where(index < 0, torch.nan, values[index])
