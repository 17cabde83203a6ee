"""Training objectives."""

from sde_gen.objective.cross_entropy import CrossEntropy
from sde_gen.objective.dsm import DSM, Draw, Loss, Objective

__all__ = ["DSM", "CrossEntropy", "Draw", "Loss", "Objective"]
