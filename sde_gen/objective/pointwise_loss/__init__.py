"""Losses of the difference of two numbers, averaged over the numbers of a sample."""

from sde_gen.objective.pointwise_loss.absolute import AbsoluteError
from sde_gen.objective.pointwise_loss.base import PointwiseLoss
from sde_gen.objective.pointwise_loss.huber import Huber, PseudoHuber
from sde_gen.objective.pointwise_loss.squared import SquaredError

__all__ = ["AbsoluteError", "Huber", "PointwiseLoss", "PseudoHuber", "SquaredError"]


def __dir__() -> list[str]:
    return sorted(__all__)
