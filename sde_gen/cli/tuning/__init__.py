"""Tune the solver for a run: what ``python -m sde_gen.benchmark tune=true`` does."""

from sde_gen.cli.tuning.search import tune
from sde_gen.cli.tuning.setting import settings

__all__ = ["settings", "tune"]
