"""Powers of the remaining fraction, in the exponent of the noise-to-signal ratio."""

from dataclasses import dataclass

from torch import Tensor

from sde_gen.grid.base import RatioGrid


@dataclass(frozen=True, kw_only=True)
class Exponential(RatioGrid):
    r"""Times whose ratios r = sigma / alpha have logarithms along a power of the remaining fraction.

    .. math::
        \log r = \log r_{min} + (1 - u)^\rho (\log r_{max} - \log r_{min})

    With rho = 1 the ratios are a geometric series: the "exponential" grid of k-diffusion, the sigmas of Song et al.,
    2021, arXiv:2011.13456, eq. 9, and the same as :class:`~sde_gen.grid.LogSNR`. Other powers are what
    k-diffusion calls polyexponential: above 1 more steps near the data, below 1 more at noise.

    Source: Crowson et al., k-diffusion, https://github.com/crowsonkb/k-diffusion, sampling.py.

    Arguments:
        rho: the power.

    Raises:
        ValueError: rho is not positive.
    """

    rho: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.rho < float("inf"):
            raise ValueError(f"rho={self.rho} must be positive and finite; 1 is the geometric series")

    def log_snrs(self, first: Tensor, last: Tensor, u: Tensor) -> Tensor:
        """Interpolate, with log_snr = -2 log r."""
        return last + (1 - u) ** self.rho * (first - last)
