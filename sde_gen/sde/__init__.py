"""Processes: pure functions of time."""

from sde_gen.sde.base import SDE, Marginal, Posterior, Prior, Transition
from sde_gen.sde.vp import VP

__all__ = ["SDE", "VP", "Marginal", "Posterior", "Prior", "Transition"]
