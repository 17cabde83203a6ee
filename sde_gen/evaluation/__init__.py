"""Evaluation: metrics, features, solver comparison and tuning, verification, results log."""

from sde_gen.evaluation import features, metric, verification
from sde_gen.evaluation.results_log import Record, ResultsLog
from sde_gen.evaluation.solver_comparison import (
    Comparison,
    Ends,
    ReferenceSolution,
    SolverErrors,
    ends,
    refined,
)
from sde_gen.evaluation.solver_tuning import SolverSetting, Tuner, candidate_settings

__all__ = [
    "Comparison",
    "Ends",
    "Record",
    "ReferenceSolution",
    "ResultsLog",
    "SolverErrors",
    "SolverSetting",
    "Tuner",
    "candidate_settings",
    "ends",
    "features",
    "metric",
    "refined",
    "verification",
]


def __dir__() -> list[str]:
    return sorted(__all__)
