"""Verification of solvers against exact solutions."""

from sde_gen.evaluation.verification.parametrized_oracle import ParametrizedOracle
from sde_gen.evaluation.verification.verify_solver import SolverReport, verify_solver

__all__ = ["ParametrizedOracle", "SolverReport", "verify_solver"]


def __dir__() -> list[str]:
    return sorted(__all__)
