"""Solver tuning for a run: ``python -m sde_gen.benchmark tune=true``."""

from sde_gen.cli.tuning.search import tune
from sde_gen.cli.tuning.setting import settings

__all__ = ["settings", "tune"]
