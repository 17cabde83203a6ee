"""Canny's edges of the samples as hints."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from sde_gen.data.conditioning.control import EdgeHint, sobel


@dataclass(frozen=True, kw_only=True)
class CannyEdges(EdgeHint):
    """Canny's edges of the samples: thin lines along the largest gradients, weak parts where strong ones continue them.

    The gray image is smoothed by a Gaussian. A pixel is a candidate if the magnitude of Sobel's gradient, in units of 4
    along an axis, is larger than that one pixel before in its direction, and not smaller than that one pixel behind,
    both linearly interpolated between the eight neighbors. An edge is a connected set of candidates above ``low`` of
    which one is above ``high``. In a file, such as a drawing, edges are white.

    Source: Canny, 1986, A computational approach to edge detection, IEEE PAMI 8(6), sections V to VIII; as hints, with
    these thresholds: Zhang et al., 2023, arXiv:2302.05543, section 4 (100 and 200 for levels 0 to 255).

    Arguments:
        dropout: probability that a hint is dropped.
        shape: shape (C, H, W) of the samples; None: that of the training split.
        levels: number of integer levels, 0 for numbers in [0, 1]; None: that of the data.
        noise: 0, as hints are clean.
        sigma: standard deviation of the Gaussian in pixels; 0 for none.
        low: smallest magnitude of the gradient in an edge.
        high: magnitude of the gradient that a pixel of every edge has, at most sqrt(2).

    Raises:
        ValueError: sigma is negative, the thresholds are out of order or of range, or as for :class:`Hint`.
    """

    sigma: float = 1.0
    low: float = 0.1
    high: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sigma >= 0:
            raise ValueError(f"sigma={self.sigma}: expected at least 0")
        if not 0 < self.low <= self.high < 2**0.5:
            raise ValueError(f"low={self.low}, high={self.high}: expected 0 < low <= high < sqrt(2)")

    def degrade(self, images: Tensor) -> Tensor:
        """Find the edges of images (B, C, H, W) in [0, 1], (B, 1, H, W)."""
        gray = images.mean(1).double().cpu().numpy()
        smooth = ndimage.gaussian_filter(gray, (0, self.sigma, self.sigma), mode="nearest")
        across, down = sobel(torch.from_numpy(smooth).unsqueeze(1)).numpy().swapaxes(0, 1)
        magnitude = np.hypot(across, down)
        candidates = _maximal(magnitude, across, down) & (magnitude >= self.low)
        lines, count = ndimage.label(candidates, _NEIGHBORS)
        strong = np.zeros(count + 1, dtype=bool)
        strong[lines[magnitude >= self.high]] = True
        strong[0] = False  # no candidate
        return torch.from_numpy(strong[lines]).unsqueeze(1).to(images)


_ROUNDING = 1e-9
"""Difference of magnitudes that are taken as equal, as on both sides of a step."""

_NEIGHBORS = np.stack([np.zeros((3, 3)), np.ones((3, 3)), np.zeros((3, 3))])
"""The eight neighbors of a pixel, of the same image."""


def _maximal(
    magnitude: NDArray[np.float64], across: NDArray[np.float64], down: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Return where the magnitude (B, H, W) is largest along the direction of the gradient."""
    longest = np.maximum(np.maximum(abs(across), abs(down)), np.finfo(np.float64).tiny)
    step = np.stack([np.zeros_like(across), down / longest, across / longest])
    places = np.indices(magnitude.shape)
    before, behind = (
        ndimage.map_coordinates(magnitude, places + side * step, order=1, mode="grid-constant")
        for side in (-1, 1)
    )
    found: NDArray[np.bool_] = (magnitude > before + _ROUNDING) & (magnitude > behind - _ROUNDING)
    return found
