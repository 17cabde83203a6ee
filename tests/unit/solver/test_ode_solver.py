"""The ODE solver: solvers stored by version 0.1, and class names."""

import pytest
import torch
from hydra.utils import instantiate

from sde_gen import ode, solver
from sde_gen.cli.renamed import TARGETS
from sde_gen.noise import IID
from sde_gen.solver import ODESolver
from tests.helpers import oracles
from tests.helpers.catalogue import make

STORED = {
    "adaptive_runge_kutta.DormandPrince": {"rtol": 1e-5, "atol": 1e-5, "max_steps": 1000, "middle": 0.3},
    "adaptive_runge_kutta.BogackiShampine": {"rtol": 1e-4, "atol": 1e-4, "max_steps": 1000, "middle": 0.3},
    "scipy_ode.ScipyODE": {"method": "RK45", "rtol": 1e-5, "atol": 1e-5},
    "torch_diffeq.TorchDiffEq": {"method": "dopri5", "rtol": 1e-5, "atol": 1e-5},
}
NAMES = ("dormand_prince", "bogacki_shampine", "scipy_ode", "torch_diffeq")


@pytest.mark.parametrize(("path", "name"), zip(STORED, NAMES, strict=True))
def test_stored_solver_opens_as_its_successor(path: str, name: str) -> None:
    stored = instantiate({"_target_": TARGETS[f"sde_gen.solver.{path}"], **STORED[path]})
    assert stored == make("solver", name)


def test_python_default_equals_the_yaml() -> None:
    assert ODESolver() == make("solver", "dormand_prince")


def test_class_names_are_unique() -> None:
    assert not set(ode.__all__) & set(solver.__all__)


def test_fixed_integrator_steps_through_the_grid() -> None:
    """RK4 in the angle, one step per step of the grid, is the solver RungeKutta4."""
    sde = make("sde", "vp")
    model, times = oracles.denoiser(sde), oracles.ratio_times(sde, 6)
    x = oracles.to_x(sde, oracles.starts(), times[0])
    ends = [
        method.solve(model, x, times, noise=IID.seeded(0))
        for method in (ODESolver(integrator=ode.RK4(steps=1)), solver.RungeKutta4())
    ]
    torch.testing.assert_close(*ends, rtol=1e-9, atol=1e-9)
    assert ODESolver(integrator=ode.RK4(steps=1)).nfe(6) == 24
