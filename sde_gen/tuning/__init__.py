"""Tune the solver for a run: what ``python -m sde_gen.benchmark tune=true`` does."""

from sde_gen.tuning.search import tune
from sde_gen.tuning.setting import settings

__all__ = ["settings", "tune"]
