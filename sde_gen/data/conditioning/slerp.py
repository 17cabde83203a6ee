"""Interpolation of embeddings."""

import torch
from torch import Tensor

OPPOSITE = 1e-3
"""Angle to the opposite direction, in radians, below which the great circle is not known."""


def slerp(start: Tensor, end: Tensor, share: Tensor) -> Tensor:
    r"""Interpolate embeddings: directions along the great circle between them, lengths linearly.

    .. math::
        \frac{\sin((1 - s)\,\omega)\, u + \sin(s\,\omega)\, v}{\sin \omega}

    for the directions u and v at the angle :math:`\omega`. A mean of two embeddings would be shorter than both.

    Source: Shoemake, 1985, section 3.3; of embeddings of images: Ramesh et al., 2022, arXiv:2204.06125, section 3.2.

    Arguments:
        start: embedding with shape (d,).
        end: embedding with shape (d,).
        share: shares s of the end with shape (n,), from 0 to 1.

    Returns:
        Embeddings with shape (n, d).

    Raises:
        ValueError: shapes differ, an embedding is zero, or directions are opposite.
    """
    if start.ndim != 1 or start.shape != end.shape or share.ndim != 1:
        raise ValueError(
            f"start, end and share have shapes {tuple(start.shape)}, {tuple(end.shape)} and {tuple(share.shape)}; "
            "expected (d,), (d,) and (n,)"
        )
    (a, b), s = (each.double() for each in (start, end)), share.double()[:, None]
    lengths = a.norm(), b.norm()
    if not min(lengths) > 0:
        raise ValueError("an embedding is zero, and has no direction")
    u, v = a / lengths[0], b / lengths[1]
    angle = 2 * torch.atan2((u - v).norm(), (u + v).norm())
    if float(angle) > torch.pi - OPPOSITE:
        raise ValueError(
            "the embeddings have opposite directions, between which there are many great circles"
        )
    # sinc is sin(pi x) / (pi x), which has no division by zero where both are the same
    weights = [part * torch.sinc(part * angle / torch.pi) for part in (1 - s, s)]
    direction = (weights[0] * u + weights[1] * v) / torch.sinc(angle / torch.pi)
    found: Tensor = direction * torch.lerp(*lengths, s)
    return found.to(start.dtype)
