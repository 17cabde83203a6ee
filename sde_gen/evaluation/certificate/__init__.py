"""Certificates of solvers: what they do, held to exact answers."""

from sde_gen.evaluation.certificate.certify import SolverReport, certify
from sde_gen.evaluation.certificate.through import ParametrizedOracle

__all__ = ["ParametrizedOracle", "SolverReport", "certify"]


def __dir__() -> list[str]:
    return sorted(__all__)
