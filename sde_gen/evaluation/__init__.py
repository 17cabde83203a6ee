"""Evaluation: metrics, solver comparison and tuning, verification, results log."""

from sde_gen.evaluation.results_log import Ledger, Row
from sde_gen.evaluation.solver_comparison import Comparison, Ends, Measured, Reference, ends, refined
from sde_gen.evaluation.solver_tuning import Candidate, Tuner, candidates

__all__ = [
    "Candidate",
    "Comparison",
    "Ends",
    "Ledger",
    "Measured",
    "Reference",
    "Row",
    "Tuner",
    "candidates",
    "ends",
    "refined",
]
