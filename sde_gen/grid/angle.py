"""Equal steps of an angle between data and noise."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.grid.base import RatioGrid


@dataclass(frozen=True, kw_only=True)
class Angle(RatioGrid):
    r"""Times whose angles u are in equal steps, from 0 at clean data to pi / 2 at pure noise.

    .. math::
        \tan^2 u = \frac{\sigma}{m\, \alpha}, \qquad \sin^2 u = \frac{\sigma}{m\, \alpha + \sigma}

    Half of the steps lie on either side of ``sigma / alpha = m``, thinning out like the square root of the ratio
    toward noise and toward data. For rectified flow with m = 1 these are the Chebyshev points, t = sin^2 u.
    The page "Few evaluations" of the documentation derives it.

    Arguments:
        middle: the ratio m = sigma / alpha in the middle; 0.3 is the median of the noise at which Karras et al.,
            2022, arXiv:2206.00364, table 1, train for data in [-1, 1]. It scales with the data.

    Raises:
        ValueError: middle is not positive.
    """

    middle: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.middle < math.inf:
            raise ValueError(
                f"middle={self.middle} must be positive; 0.3 suits data of standard deviation 0.5"
            )

    def log_snrs(self, first: Tensor, last: Tensor, u: Tensor) -> Tensor:
        """Interpolate u = arctan sqrt(ratio / m), with log_snr = -2 log ratio."""
        log_m = math.log(self.middle)
        u_first, u_last = (torch.atan(torch.exp(-0.25 * end - 0.5 * log_m)) for end in (first, last))
        return -4 * torch.log(torch.tan(u_first + u * (u_last - u_first))) - 2 * log_m
