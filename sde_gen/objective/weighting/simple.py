"""Constant weighting (L_simple)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.objective.weighting.base import Weighting
from sde_gen.sde.base import SDE


@dataclass(frozen=True, kw_only=True)
class Simple(Weighting):
    """w = 1, L_simple of Ho et al., 2020, arXiv:2006.11239, eq. 14."""

    def __call__(self, sde: SDE, t: Tensor) -> Tensor:
        """Return 1 with the shape of t."""
        del sde
        return torch.ones_like(t)
