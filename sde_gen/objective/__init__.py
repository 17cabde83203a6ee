"""Training objectives."""

from sde_gen.objective.cross_entropy import CrossEntropy
from sde_gen.objective.dsm import DSM, Loss, NoiseDraw, Objective

__all__ = ["DSM", "CrossEntropy", "Loss", "NoiseDraw", "Objective"]
