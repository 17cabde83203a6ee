"""Reports on solvers that refuse some grids."""

import math

import pytest

from sde_gen.evaluation.verification import verify_solver
from tests.helpers.catalogue import make


@pytest.mark.parametrize("name", ["annealed_langevin", "pndm"])
def test_a_solver_that_refuses_coarse_grids_is_measured_on_others(name: str) -> None:
    report = verify_solver(name, make("solver", name), "vp", make("sde", "vp"))
    assert report.failures == []
    assert report.coupling < 1e-9
    assert report.nfe[0] == report.nfe[1] > 0
    assert math.isnan(report.bias) == (name == "annealed_langevin"), (
        "its budget is four levels, which it refuses"
    )
