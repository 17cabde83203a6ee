"""Hue of pictures: its mean, and rotation of all colors by an angle."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

COLORS = ("red", "yellow", "green", "cyan", "blue", "magenta")
"""Names of the hues 0, 60, 120, 180, 240 and 300 degrees."""


class Hue(NamedTuple):
    """Hue of pictures.

    Attributes:
        angle: circular mean of the pixels' hues in degrees with shape (N,), weighted by their chroma.
        agreement: length of the mean of the unit vectors with shape (N,): 1 for a single hue, 0 for all alike.
        chroma: mean chroma of the pixels in [0, 1] with shape (N,).
    """

    angle: Tensor
    agreement: Tensor
    chroma: Tensor


def hue(pictures: Tensor) -> Hue:
    """Measure the hue of pictures (N, 3, H, W) of 256 levels."""
    hsv = _hsv(pictures)
    weight = hsv[:, 1] * hsv[:, 2]
    angle = 2 * math.pi * hsv[:, 0]
    cos, sin, total = (
        (weight * part).sum((1, 2)) for part in (angle.cos(), angle.sin(), torch.ones_like(angle))
    )
    return Hue(
        torch.rad2deg(torch.atan2(sin, cos)) % 360,
        torch.hypot(cos, sin) / total.clamp(min=1e-12),
        weight.mean((1, 2)),
    )


def rotate(pictures: Tensor, degrees: Tensor) -> Tensor:
    """Add angles (N,) in degrees to the hue of all pixels of pictures (N, 3, H, W); saturation and value stay."""
    from matplotlib.colors import hsv_to_rgb

    hsv = _hsv(pictures)
    hsv[:, 0] = (hsv[:, 0] + degrees.double().view(-1, 1, 1) / 360) % 1
    rgb = hsv_to_rgb(hsv.permute(0, 2, 3, 1).numpy())
    return torch.from_numpy(np.rint(255 * rgb).astype(np.uint8)).permute(0, 3, 1, 2).contiguous()


def distance(first: Tensor, second: Tensor) -> Tensor:
    """Return the circular distance of angles in degrees, from 0 to 180."""
    return ((first - second + 180) % 360 - 180).abs()


def _hsv(pictures: Tensor) -> Tensor:
    """Return hue, saturation and value in [0, 1], float64 with shape (N, 3, H, W)."""
    from matplotlib.colors import rgb_to_hsv

    rgb = pictures.permute(0, 2, 3, 1).double().numpy() / 255
    return torch.from_numpy(rgb_to_hsv(rgb)).permute(0, 3, 1, 2)
