"""Equal steps of the log-SNR."""

from dataclasses import dataclass

from torch import Tensor

from sde_gen.grid.base import RatioGrid


@dataclass(frozen=True, kw_only=True)
class LogSNR(RatioGrid):
    """Times whose log(alpha^2 / sigma^2) are in equal steps: the natural grid of exponential integrators.

    Source: Lu et al., 2022, arXiv:2206.00927, section 3.3.
    """

    def log_snrs(self, first: Tensor, last: Tensor, u: Tensor) -> Tensor:
        """Interpolate the log-SNR linearly between the ends."""
        return first + u * (last - first)
