"""Base of the grids in the noise-to-signal ratio."""

import abc
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.grid.base import Curve
from sde_gen.sde.base import SDE


@dataclass(frozen=True, kw_only=True)
class RatioGrid(Curve):
    """A grid in a function of sigma / alpha, which some processes let grow to infinity at t = 1.

    Such a grid begins where the ratio is ``ratio_max``, if that is before t_max: the signal there is 1 / ratio_max of a
    standard deviation, and steps beyond are useless.

    Arguments:
        ratio_max: largest sigma / alpha of a grid.

    Raises:
        ValueError: ratio_max is not positive.
    """

    ratio_max: float = 1e3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.ratio_max < math.inf:
            raise ValueError(f"ratio_max={self.ratio_max} must be positive and finite")

    def begin(self, sde: SDE) -> Tensor:
        """The first time: t_max, or where sigma / alpha = ratio_max."""
        t_max = super().begin(sde)
        most = torch.tensor(-2 * math.log(self.ratio_max), dtype=torch.float64)
        return t_max if bool(sde.log_snr(t_max) >= most) else sde.t_from_log_snr(most)

    def times(self, sde: SDE, t_max: Tensor, t_min: Tensor, u: Tensor) -> Tensor:
        """Interpolate log_snr by the subclass' rule."""
        return sde.t_from_log_snr(self.log_snrs(sde.log_snr(t_max), sde.log_snr(t_min), u))

    @abc.abstractmethod
    def log_snrs(self, first: Tensor, last: Tensor, u: Tensor) -> Tensor:
        """Log-SNRs at the fractions u in [0, 1] between the first and the last."""
