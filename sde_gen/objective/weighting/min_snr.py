"""Min-SNR weighting of the loss."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.objective.weighting.base import Weighting
from sde_gen.sde.base import SDE


@dataclass(frozen=True, kw_only=True)
class MinSNR(Weighting):
    """w = min(SNR, gamma) / SNR, the weight min(SNR, gamma) on the error of x_0.

    Source: Hang et al., 2023, arXiv:2303.09556, section 3.4.

    Arguments:
        gamma: SNR above which the error of x_0 weighs no more.
    """

    gamma: float = 5.0

    def __post_init__(self) -> None:
        if not self.gamma > 0:
            raise ValueError(f"gamma={self.gamma} must be positive; the paper's value is 5")

    def __call__(self, sde: SDE, t: Tensor) -> Tensor:
        """min(1, gamma / SNR)."""
        return torch.clamp(self.gamma * torch.exp(-sde.log_snr(t)), max=1.0)
