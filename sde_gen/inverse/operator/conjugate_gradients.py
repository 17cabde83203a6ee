"""Conjugate gradients, independently for each sample."""

from collections.abc import Callable

import torch
from torch import Tensor

from sde_gen.utils.broadcasting import broadcast, sum_event

Map = Callable[[Tensor], Tensor]
"""A linear map of a batch, (B, *shape) -> (B, *shape)."""


def conjugate_gradients(a: Map, b: Tensor, steps: int, tol: float = 1e-12) -> Tensor:
    r"""Solve A x = b for positive definite A, independently for each sample; converged samples stay unchanged.

    Products with a network's derivative are neither symmetric nor positive, and the iteration may diverge. So a sample
    stops where p . A p <= 0, and its result is the iterate with the smallest residual, which is never larger than b.

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
    best, least = x, rho
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
        better = new < least
        best, least = torch.where(broadcast(better, x), x, best), torch.where(better, new, least)
        p = r + broadcast(torch.where(going, new / rho, 0), p) * p
        rho = new
        going = going & (rho > done)
    return best
