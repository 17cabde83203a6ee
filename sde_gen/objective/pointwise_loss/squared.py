"""Squared error."""

from dataclasses import dataclass

from torch import Tensor

from sde_gen.objective.pointwise_loss.base import PointwiseLoss


@dataclass(frozen=True, kw_only=True)
class SquaredError(PointwiseLoss):
    """d^2, whose minimum is the conditional mean."""

    def pointwise(self, difference: Tensor) -> Tensor:
        """Return d^2."""
        return difference**2
