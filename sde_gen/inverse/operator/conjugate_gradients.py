"""Conjugate gradients, independently for each sample."""

from collections.abc import Callable

import torch
from torch import Tensor

from sde_gen.utils.broadcasting import broadcast, sum_event

Map = Callable[[Tensor], Tensor]
"""A linear map of a batch, (B, *shape) -> (B, *shape)."""


def conjugate_gradients(a: Map, b: Tensor, steps: int, tol: float = 1e-12) -> Tensor:
    r"""Solve A x = b for positive definite A, independently for each sample; converged samples stay unchanged.

    So does one whose A proves not to be positive, which is so of products with a network's derivative: where
    p . A p <= 0 nothing is gained by going on.

    Sources: Hestenes and Stiefel, 1952; the stop: Steihaug, 1983, SIAM Journal on Numerical Analysis 20, 626.

    Arguments:
        a: products with A, (B, *shape) -> (B, *shape).
        b: right-hand sides with shape (B, *shape).
        steps: number of products with A.
        tol: residual, relative to b, at which a sample has converged.

    Returns:
        Solutions with shape (B, *shape).
    """
    x, r = torch.zeros_like(b), b
    p, rho = r, sum_event(r * r)
    done = tol**2 * rho
    going = rho > done
    for _ in range(steps):
        if not bool(going.any()):
            break
        ap = a(p)
        curvature = sum_event(p * ap)
        going = going & (curvature > 0)
        step = torch.where(going, rho / curvature, 0)
        x, r = x + broadcast(step, p) * p, r - broadcast(step, p) * ap
        new = sum_event(r * r)
        p = r + broadcast(torch.where(going, new / rho, 0), p) * p
        rho = new
        going = going & (rho > done)
    return x
