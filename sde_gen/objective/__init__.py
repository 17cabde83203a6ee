"""Training objectives."""

from sde_gen.objective.dsm import DSM, Loss

__all__ = ["DSM", "Loss"]
