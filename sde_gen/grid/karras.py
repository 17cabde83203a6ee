"""The grid of Karras et al."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.grid.base import RatioGrid


@dataclass(frozen=True, kw_only=True)
class Karras(RatioGrid):
    r"""Times whose ratios r = sigma / alpha have their rho-th roots in equal steps.

    .. math::
        r = \left(r_{max}^{1/\rho} + u (r_{min}^{1/\rho} - r_{max}^{1/\rho})\right)^\rho

    Source: Karras et al., 2022, arXiv:2206.00364, eq. 5, carried from their process to all by sigma / alpha.

    Arguments:
        rho: 1 is equal steps of the ratio; infinity would be equal steps of the log-SNR.

    Raises:
        ValueError: rho is below 1.
    """

    rho: float = 7.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.rho >= 1:
            raise ValueError(f"rho={self.rho} must be at least 1; the paper's is 7")

    def log_snrs(self, first: Tensor, last: Tensor, u: Tensor) -> Tensor:
        """Interpolate r^(1 / rho) = exp(-log_snr / (2 rho))."""
        root_first, root_last = torch.exp(-first / (2 * self.rho)), torch.exp(-last / (2 * self.rho))
        return -2 * self.rho * torch.log(root_first + u * (root_last - root_first))
