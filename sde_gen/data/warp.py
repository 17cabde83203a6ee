"""Cubic interpolation of images at arbitrary coordinates."""

import torch
from torch import Tensor


def interpolate(images: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Interpolate images by cubic convolution, which reproduces polynomials of degree 2; edges are mirrored.

    Source: Keys, 1981, Cubic convolution interpolation for digital image processing, with a = -1/2.

    Arguments:
        images: floating-point, with shape (B, C, H, W).
        x: column coordinates in pixels, 0 at the center of the first pixel, with shape (B, *place).
        y: row coordinates, with the same shape.

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
    """Return indices and weights of the four nearest pixels along an axis, mirrored at its ends."""
    below = place.floor()
    weights = _weights(place - below)
    found = []
    for step, weight in zip(range(-1, 3), weights, strict=True):
        index = (below.long() + step).remainder(2 * size)
        found.append((torch.minimum(index, 2 * size - 1 - index), weight))
    return found


def _weights(f: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the weights of the pixels at -1, 0, 1 and 2 for a coordinate f in [0, 1)."""
    return (
        0.5 * f * ((2 - f) * f - 1),
        0.5 * (f * f * (3 * f - 5) + 2),
        0.5 * f * ((4 - 3 * f) * f + 1),
        0.5 * f * f * (f - 1),
    )
