"""Huber's loss and its smooth form."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sde_gen.objective.pointwise_loss.base import PointwiseLoss


@dataclass(frozen=True, kw_only=True)
class Huber(PointwiseLoss):
    r"""Quadratic up to ``delta``, linear beyond.

    .. math::
        \tfrac12 d^2 \;\text{for}\; |d| \le \delta, \qquad \delta (|d| - \tfrac12 \delta) \;\text{beyond}

    Source: Huber, 1964, Annals of Mathematical Statistics 35(1).

    Arguments:
        delta: where it becomes linear.

    Raises:
        ValueError: delta is not positive.
    """

    delta: float = 1.0

    def __post_init__(self) -> None:
        _check(self.delta)

    def pointwise(self, difference: Tensor) -> Tensor:
        """Return Huber's loss of every number."""
        return F.huber_loss(difference, torch.zeros_like(difference), reduction="none", delta=self.delta)


@dataclass(frozen=True, kw_only=True)
class PseudoHuber(PointwiseLoss):
    r"""A smooth form of Huber's loss with the same limits.

    .. math::
        \delta^2 \big(\sqrt{1 + (d / \delta)^2} - 1\big)

    Sources: Charbonnier et al., 1997; for diffusion models Khrapov et al., 2024, arXiv:2403.16728.

    Arguments:
        delta: about where it becomes linear.

    Raises:
        ValueError: delta is not positive.
    """

    delta: float = 1.0

    def __post_init__(self) -> None:
        _check(self.delta)

    def pointwise(self, difference: Tensor) -> Tensor:
        """Return the loss of every number, as d^2 / (sqrt(1 + (d / delta)^2) + 1), without cancellation."""
        return difference**2 / (torch.sqrt(1 + (difference / self.delta) ** 2) + 1)


def _check(delta: float) -> None:
    if not delta > 0:
        raise ValueError(
            f"delta={delta} must be positive; for the absolute error use pointwise_loss=absolute"
        )
