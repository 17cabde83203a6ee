"""Cubic interpolation of images at any places."""

import torch
from torch import Tensor


def interpolate(images: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Interpolate images by cubic convolution, which reproduces polynomials of degree 2; edges are mirrored.

    Source: Keys, 1981, Cubic convolution interpolation for digital image processing, with a = -1/2.

    Arguments:
        images: floating-point, with shape (B, C, H, W).
        x: columns of the places in pixels, 0 at the center of the first one, with shape (B, *place).
        y: their rows, with the same shape.

    Returns:
        Values with shape (B, C, *place).
    """
    h, w = images.shape[-2:]
    flat = images.flatten(2)
    columns, rows = (_neighbors(place.flatten(1), size) for place, size in ((x, w), (y, h)))
    out = torch.zeros((*flat.shape[:2], x[0].numel()), dtype=images.dtype, device=images.device)
    for row, by_row in rows:
        for column, by_column in columns:
            index = (row * w + column).unsqueeze(1).expand(-1, flat.shape[1], -1)
            out += (by_row * by_column).unsqueeze(1) * flat.gather(2, index)
    return out.reshape(*flat.shape[:2], *x.shape[1:])


def _neighbors(place: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    """The four nearest pixels of a line of pixels, mirrored at its ends, and their weights."""
    below = place.floor()
    weights = _weights(place - below)
    found = []
    for step, weight in zip(range(-1, 3), weights, strict=True):
        index = (below.long() + step).remainder(2 * size)
        found.append((torch.minimum(index, 2 * size - 1 - index), weight))
    return found


def _weights(f: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights of the pixels at -1, 0, 1 and 2 for a place f in [0, 1)."""
    return (
        0.5 * f * ((2 - f) * f - 1),
        0.5 * (f * f * (3 * f - 5) + 2),
        0.5 * f * ((4 - 3 * f) * f + 1),
        0.5 * f * f * (f - 1),
    )
