"""Verification of solvers against exact solutions."""

from sde_gen.evaluation.verification.oracles import ParametrizedOracle
from sde_gen.evaluation.verification.verify_solver import SolverReport, verify_solver

__all__ = ["ParametrizedOracle", "SolverReport", "verify_solver"]


def __dir__() -> list[str]:
    return sorted(__all__)
