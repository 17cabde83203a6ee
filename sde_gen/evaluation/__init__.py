"""Evaluation: metrics, features, solver comparison and tuning, verification, results log."""

from sde_gen.evaluation import features, metric, verification
from sde_gen.evaluation.results_log import Record, ResultsLog
from sde_gen.evaluation.solver_comparison import (
    Comparison,
    ReferenceSolution,
    SolverErrors,
    TimeInterval,
    endpoints,
    refine_grid,
)
from sde_gen.evaluation.solver_tuning import SolverSetting, Tuner, candidate_settings

__all__ = [
    "Comparison",
    "Record",
    "ReferenceSolution",
    "ResultsLog",
    "SolverErrors",
    "SolverSetting",
    "TimeInterval",
    "Tuner",
    "candidate_settings",
    "endpoints",
    "features",
    "metric",
    "refine_grid",
    "verification",
]


def __dir__() -> list[str]:
    return sorted(__all__)
