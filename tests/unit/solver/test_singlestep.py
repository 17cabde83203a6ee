"""Singlestep solvers: starts without signal, methods that coincide, and a variable that no process changes."""

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from sde_gen.grid import Uniform
from sde_gen.noise import IID
from sde_gen.sde import SDE
from sde_gen.solver import (
    DDIM,
    DPMSolverPP2S,
    DPMSolverPP3S,
    Euler,
    EulerMaruyama,
    Midpoint,
    RungeKutta4,
    StepSolver,
)
from sde_gen.solver.callbacks import NFECounter, StopOnNaN
from sde_gen.solver.ode_solver import torch_diffeq
from tests.helpers import oracles
from tests.helpers.catalogue import make, names

SDES = names("sde")
SOLVERS: list[StepSolver] = [Euler(), Midpoint(), RungeKutta4(), DPMSolverPP2S(), DPMSolverPP3S()]


def title(value: object) -> str | None:
    return type(value).__name__ if isinstance(value, StepSolver) else None


def end(solver: StepSolver, sde: SDE, times: Tensor) -> Tensor:
    x = oracles.to_x(sde, oracles.starts(), times[0])
    return solver.solve(oracles.denoiser(sde), x, times, noise=IID.seeded(0), hooks=[StopOnNaN()])


@cache
def straight(up: bool) -> tuple[Tensor, Tensor]:
    """Ends of a path of the straight process that goes from t = 1 down to 0.05, or up."""
    sde, x = make("sde", "rectified"), IID.seeded(3).normal(torch.empty(16, 2).double())
    times = torch.tensor([1.0, 0.05]).double()
    exact = torch_diffeq(method="dopri8", rtol=1e-11, atol=1e-12).solve(
        oracles.denoiser(sde), x, times, noise=IID.seeded(0)
    )
    return (exact, x) if up else (x, exact)


def straight_order(solver: StepSolver, up: bool, power: int) -> float:
    """Slope over three doublings of steps that are even in u, with t = 1 - u^power."""
    sde, (x, exact) = make("sde", "rectified"), straight(up)
    errors = []
    for steps in (12, 96):
        times = 1 - torch.linspace(0, 0.95 ** (1 / power), steps + 1, dtype=torch.float64) ** power
        times[-1] = 0.05  # to the last bit
        times = times.flip(0) if up else times
        result = solver.solve(oracles.denoiser(sde), x, times, noise=IID.seeded(0), hooks=[StopOnNaN()])
        errors.append(float((result - exact).square().mean().sqrt()))
    return float(np.log2(errors[0] / errors[1]) / 3)


@pytest.mark.long
@pytest.mark.parametrize("up", [False, True], ids=["down", "up"])
@pytest.mark.parametrize("solver", SOLVERS, ids=title)
def test_singlestep_solver_keeps_its_order_at_zero_signal(solver: StepSolver, up: bool) -> None:
    """The linear path at t = 1 has alpha = 0 and log_snr = -inf; the orders stay what they are.

    Near t = 1 the angle of Runge-Kutta's method is like the root of 1 - t, and steps even in t are not in the angle.
    """
    if solver.order == 4:
        assert straight_order(solver, up, power=2) >= 3.85
        assert straight_order(solver, up, power=1) >= 2.85
    else:
        assert straight_order(solver, up, power=1) >= solver.order - 0.15


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("solver", SOLVERS, ids=title)
def test_few_steps_from_no_signal_are_finite(solver: StepSolver, steps: int) -> None:
    sde = make("sde", "rectified")
    x = IID.seeded(0).normal(torch.empty(8, 2))
    solver.solve(oracles.denoiser(sde), x, Uniform()(sde, steps), noise=IID.seeded(1), hooks=[StopOnNaN()])


@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize(
    ("ours", "original"),
    [
        (Euler(), torch_diffeq(method="euler")),
        (Euler(), EulerMaruyama(eta=0.0)),
        (Midpoint(), torch_diffeq(method="midpoint")),
    ],
    ids=["euler", "euler_maruyama", "midpoint"],
)
def test_is_the_method_of_others(ours: StepSolver, original: StepSolver, sde: str) -> None:
    """torchdiffeq's fixed methods step in t; the reverse SDE without noise is the flow, written with f and g."""
    process = make("sde", sde)
    times = oracles.ratio_times(process, 9)
    torch.testing.assert_close(end(ours, process, times), end(original, process, times), rtol=1e-7, atol=1e-7)


def test_euler_on_the_straight_path_is_ddim() -> None:
    sde = make("sde", "rectified")
    times = oracles.ratio_times(sde, 9)
    torch.testing.assert_close(end(Euler(), sde, times), end(DDIM(), sde, times), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("solver", [RungeKutta4(), DPMSolverPP2S(), DPMSolverPP3S()], ids=title)
def test_the_process_does_not_matter(solver: StepSolver) -> None:
    """At the same ratios sigma / alpha the steps are the same, whatever alpha and sigma are as functions of time."""
    ends = []
    for sde in SDES:
        process = make("sde", sde)
        times = oracles.ratio_times(process, 6)
        ends.append(oracles.to_z(process, end(solver, process, times), times[-1]))
    assert np.abs(ends[0] - oracles.ends()).max() > 1e-3  # nothing that everyone gets right
    for a, b in pairwise(ends):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-7)


def test_stages_of_classical_runge_kutta_are_where_they_should_be() -> None:
    """Two evaluations in the middle of the angle, the last at the end of the step, exactly."""
    sde, asked = make("sde", "vp"), []
    model, times = oracles.denoiser(sde), oracles.ratio_times(sde, 3)
    model.register_forward_pre_hook(lambda _, args: asked.append(args[1]))
    with NFECounter(model) as counter:
        RungeKutta4(middle=1.0).solve(model, torch.ones(2, 2), times, noise=IID.seeded(0))
    assert counter.calls == RungeKutta4().nfe(3) == 12
    for n, (t, s) in enumerate(pairwise(times)):
        first, second, third, last = asked[4 * n : 4 * n + 4]
        assert torch.equal(first, t)
        assert torch.equal(second, third)
        assert torch.equal(last, s)
        u = [torch.atan(torch.exp(-0.25 * sde.log_snr(time))) for time in (t, second, s)]
        torch.testing.assert_close(u[1], 0.5 * (u[0] + u[2]), rtol=0, atol=1e-9)


@pytest.mark.parametrize("middle", [0.0, -1.0, float("inf"), float("nan")])
def test_invalid_middle_is_refused(middle: float) -> None:
    with pytest.raises(ValueError, match="middle="):
        RungeKutta4(middle=middle)
