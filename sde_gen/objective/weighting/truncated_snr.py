"""Truncated-SNR weighting of the loss."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.objective.weighting.base import Weighting
from sde_gen.sde.base import SDE


@dataclass(frozen=True, kw_only=True)
class TruncatedSNR(Weighting):
    """w = max(SNR, 1) / SNR, the weight max(SNR, 1) on the error of x_0.

    It grows without bound as the signal vanishes: for rectified flow keep times away from t = 1.

    Source: Salimans and Ho, 2022, arXiv:2202.00512, section 4.
    """

    def __call__(self, sde: SDE, t: Tensor) -> Tensor:
        """max(1, 1 / SNR)."""
        return torch.clamp(torch.exp(-sde.log_snr(t)), min=1.0)
