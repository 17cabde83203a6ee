"""Piecewise cubic functions of time."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import CubicHermiteSpline, CubicSpline
from torch import Tensor

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Cubic:
    """A piecewise cubic, evaluated in float64 on the device of its argument.

    Arguments:
        knots: ascending knots with shape (n,).
        coefficients: coefficients of the powers 3, 2, 1, 0 of t - knot, with shape (4, n - 1).
    """

    knots: Tensor
    coefficients: Tensor

    def __call__(self, t: Tensor) -> Tensor:
        """Value at times of any shape; the end pieces go on beyond the end knots."""
        w, (a, b, c, d) = self._locate(t)
        return (((a * w + b) * w + c) * w + d).to(t.dtype)

    def derivative(self, t: Tensor) -> Tensor:
        """First derivative at times of any shape."""
        w, (a, b, c, _) = self._locate(t)
        return ((3 * a * w + 2 * b) * w + c).to(t.dtype)

    def _locate(self, t: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        knots, coefficients = self.knots.to(t.device), self.coefficients.to(t.device)
        where = t.detach().double().contiguous()
        piece = torch.searchsorted(knots, where, right=True).sub(1).clamp(0, len(knots) - 2)
        return t.double() - knots[piece], coefficients[:, piece].unbind()


def cubic_spline(knots: Array, values: Array) -> Cubic:
    """Interpolate with two continuous derivatives: the not-a-knot cubic spline (de Boor, 1978, chapter 4)."""
    return _cubic(CubicSpline(knots, values))


def increasing_cubic(knots: Array, values: Array) -> Cubic:
    """Interpolate increasing values by an increasing function.

    The cubic spline wherever it increases by itself, which on smooth tables is everywhere; elsewhere its
    slopes at the knots are brought into the region where a cubic piece is strictly increasing, at the price
    of the second derivative's continuity. Source: Hyman, 1983, SIAM J. Sci. Stat. Comput. 4(4), with the
    bounds 1/4 and 5/2 for his 0 and 3, which keep the derivative positive.
    """
    secants = np.diff(values) / np.diff(knots)
    steepest = np.minimum(np.append(secants, np.inf), np.insert(secants, 0, np.inf))
    slopes = np.clip(CubicSpline(knots, values)(knots, 1), steepest / 4, 2.5 * steepest)
    return _cubic(CubicHermiteSpline(knots, values, slopes))


def _cubic(spline: CubicSpline | CubicHermiteSpline) -> Cubic:
    return Cubic(torch.tensor(spline.x, dtype=torch.float64), torch.tensor(spline.c, dtype=torch.float64))
