"""Absolute error."""

from dataclasses import dataclass

from torch import Tensor

from sde_gen.objective.pointwise_loss.base import PointwiseLoss


@dataclass(frozen=True, kw_only=True)
class AbsoluteError(PointwiseLoss):
    """|d|, whose minimum is the conditional median.

    Source: Saharia et al., 2021, arXiv:2104.07636, section 2.3 (p = 1).
    """

    def pointwise(self, difference: Tensor) -> Tensor:
        """Return |d|."""
        return difference.abs()
