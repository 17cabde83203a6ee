"""Contract of all solvers: order on every process, number of evaluations, samples independent of the batch."""

import dataclasses
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sde_gen.denoiser import Denoiser
from sde_gen.denoiser.prediction import Prediction
from sde_gen.inverse.operator import Mask
from sde_gen.inverse.projection import Projection
from sde_gen.noise import Brownian, PerSample
from sde_gen.solver import DDIM, BatchLangevin, PredictorCorrector
from sde_gen.solver._table import TableSolver
from sde_gen.solver.base import Solver
from sde_gen.solver.callbacks import NFECounter, StepInfo, StopOnNaN, Trajectory
from tests.helpers import oracles
from tests.helpers.catalogue import first, integrators, make, names

SOLVERS = integrators()
SDES = names("sde")
FEW_SDES = first("sde", "vp", "ve", "rectified")
"""All processes, those but three in slow runs."""
UNCOUPLED = [name for name in SOLVERS if not make("solver", name).batch_coupled]
DETERMINISTIC = [name for name in SOLVERS if not make("solver", name).stochastic]
STOCHASTIC = [name for name in SOLVERS if make("solver", name).stochastic]
WITH_NOISE = [(name, {}) for name in STOCHASTIC] + [("ddim", {"eta": 1.0}), ("edm_churn", {"s_churn": 0.0})]
STEPS, FINE = (12, 96), (64, 512)
"""The ends of three doublings, and of three others."""
MIDDLE = (2.0, 0.1)
"""Ratios between which the flow is curved from the first step on."""


LOOSE = {"rtol": 0.1, "atol": 0.1}
COARSE: dict[str, dict[str, Any]] = {
    "adaptive_sde": LOOSE,
    "bogacki_shampine": {"integrator": LOOSE},
    "dormand_prince": {"integrator": LOOSE},
    "dpm_adaptive": LOOSE,
    "scipy_ode": {"integrator": LOOSE},
    "torch_diffeq": {"integrator": LOOSE},
}
"""Tolerances of adaptive solvers for what is true with any."""


def coarse(name: str) -> Solver:
    """The solver of a yaml, in few steps where it chooses them itself."""
    solver: Solver = make("solver", name, **COARSE.get(name, {}))
    return solver


UNSTABLE = {"annealed_langevin", "pndm"}
"""Solvers that refuse few long steps from pure noise; with few steps they are tested between the ratios MIDDLE."""


def range_of(name: str) -> tuple[float, float]:
    """Ratios between which a solver works with any number of steps."""
    return MIDDLE if name in UNSTABLE else oracles.RATIOS


def order_of(solver: Solver) -> int | None:
    """The declared order; adaptive solvers have none."""
    return getattr(solver, "order", None)


def run(solver: Solver, model: Denoiser, times: Tensor, x: Tensor, hooks: tuple[object, ...] = ()) -> Tensor:
    """Solve with one stream of noise per sample."""
    return solver.solve(model, x, times, noise=PerSample(range(len(x))), hooks=hooks)  # type: ignore[arg-type]


@cache
def passing(rho0: float, rho1: float) -> tuple[oracles.Array, oracles.Array]:
    """Where the paths from all starts are at two ratios."""
    first = oracles.flow(oracles.starts(), oracles.RATIOS[0], rho0)
    return first, oracles.flow(first, rho0, rho1)


@cache
def course(
    sde_name: str, steps: int, ratios: tuple[float, float] = oracles.RATIOS
) -> tuple[Denoiser, Tensor]:
    """The exact denoiser of a process, and its times in equal steps of log_snr between two ratios."""
    sde = make("sde", sde_name)
    log_snr = torch.linspace(-2 * np.log(ratios[0]), -2 * np.log(ratios[1]), steps + 1, dtype=torch.float64)
    return oracles.denoiser(sde), sde.t_from_log_snr(log_snr)


def error(
    solver: Solver, sde_name: str, steps: int, up: bool = False, ratios: tuple[float, float] = oracles.RATIOS
) -> float:
    """RMS error of the end point in x / alpha, or, going up, of the start in standard deviations."""
    model, times = course(sde_name, steps, ratios)
    first, last = passing(*ratios)
    if up:
        times, first, last = times.flip(0), last, first
    x = run(solver, model, times, oracles.to_x(model.sde, first, times[0]))
    return float(np.sqrt(np.mean((oracles.to_z(model.sde, x, times[-1]) - last) ** 2)))


def check_order(solver: Solver, sde: str, *, tol: float = 1e-3, **where: Any) -> None:
    """Compare the slope over three doublings with the declared order, and adaptive solvers with a tolerance.

    A method whose variable is not the grid's, such as a polynomial in sigma / alpha on equal steps of its logarithm,
    shows its order at shorter steps only; there a lower order shows more clearly too.
    """
    order = order_of(solver)
    if order is None:
        assert error(solver, sde, 1, **where) < tol
        return
    errors = [error(solver, sde, steps, **where) for steps in STEPS]
    if np.log2(errors[0] / errors[-1]) / 3 < order - 0.15:
        errors = [error(solver, sde, steps, **where) for steps in FINE]
    measured = np.log2(errors[0] / errors[-1]) / 3
    assert measured >= order - 0.15, f"order {measured:.2f} instead of {order}: errors {errors}"


@pytest.mark.parametrize("sde", FEW_SDES)
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_converges_at_declared_order(name: str, sde: str) -> None:
    check_order(make("solver", name), sde)


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_encodes_at_declared_order(name: str) -> None:
    check_order(make("solver", name), "vp", up=True, tol=1e-2)  # of 20


@pytest.mark.parametrize("up", [False, True], ids=["down", "up"])
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_starts_at_declared_order(name: str, up: bool) -> None:
    """Where the flow is straight at first, a start of too low an order hides for many steps."""
    check_order(make("solver", name), "vp", up=up, ratios=MIDDLE)


@pytest.mark.parametrize("sde", first("sde", "vp", "ve"))
@pytest.mark.parametrize("name", UNCOUPLED)
def test_batch_of_one_is_batch_of_many(name: str, sde: str) -> None:
    solver, (model, times) = coarse(name), course(sde, 5, range_of(name))
    x = oracles.to_x(model.sde, oracles.starts(), times[0])[:4]
    together = run(solver, model, times, x)
    for row in (0, len(x) - 1):
        alone = solver.solve(model, x[row : row + 1], times, noise=PerSample([row]))
        torch.testing.assert_close(alone, together[row : row + 1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", SOLVERS)
def test_any_number_of_steps_is_finite_and_makes_the_evaluations_declared(name: str) -> None:
    """The singlestep solver of order 3 in diffusers gave NaN at 3 n - 1 steps (defect 11)."""
    solver = coarse(name)
    for steps in range(1, 9):
        model, times = course("vp", steps, range_of(name))
        x = oracles.to_x(model.sde, oracles.starts(), times[0])
        with NFECounter(model) as counter:
            assert torch.isfinite(run(solver, model, times, x, hooks=(StopOnNaN(),))).all(), steps
        declared = solver.nfe(steps)
        if declared is None:
            assert order_of(solver) is None, "only a solver that decides on the way may leave this open"
        else:
            assert counter.calls == declared, steps


@pytest.mark.long
@pytest.mark.parametrize("name", SOLVERS)
def test_takes_any_event_shape(name: str) -> None:
    solver, sde = coarse(name), make("sde", "vp")
    _, times = course("vp", 5, range_of(name))
    x = oracles.to_x(sde, oracles.starts(), times[0])
    flat = run(solver, oracles.denoiser(sde), times, x)
    for event in [(2, 1), (1, 1, 2), (1, 2, 1, 1)]:
        shaped = run(solver, oracles.denoiser(sde, event=event), times, x.reshape(-1, *event))
        assert shaped.shape == (len(x), *event)
        torch.testing.assert_close(shaped.reshape(x.shape), flat, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", SOLVERS)
def test_same_noise_gives_same_result_and_leaves_the_start(name: str) -> None:
    solver, sde = coarse(name), make("sde", "vp")
    model, times = course("vp", 5, range_of(name))
    x = oracles.to_x(sde, oracles.starts(), times[0])
    before, state = x.clone(), torch.get_rng_state()
    assert torch.equal(run(solver, model, times, x), run(solver, model, times, x))
    assert torch.equal(x, before), "a solver must not change its start"
    other = solver.solve(model, x, times, noise=PerSample(range(100, 100 + len(x))))
    assert torch.equal(other, run(solver, model, times, x)) != solver.stochastic
    assert torch.equal(torch.get_rng_state(), state), "a solver must not use global randomness"


class OtherFresh(Brownian):
    """The same paths, but other fresh noise."""

    def normal(self, x: Tensor) -> Tensor:
        return -super().normal(x)


@pytest.mark.long
@pytest.mark.parametrize(("name", "more"), WITH_NOISE)
def test_says_whether_a_brownian_path_decides_over_the_samples(name: str, more: dict[str, float]) -> None:
    """Pathwise: more steps on one path converge, and there is no noise beside the path's."""
    solver, ends, seeds = make("solver", name, **more), {}, range(8)
    for steps in (8, 64, 128):
        model, times = course("vp", steps, range_of(name))
        x = oracles.to_x(model.sde, oracles.starts()[: len(seeds)], times[0])
        ends[steps] = solver.solve(model, x, times, noise=Brownian(seeds))
    coarse, fine = (float((ends[steps] - ends[128]).square().mean().sqrt()) for steps in (8, 64))
    converges = 0 < fine < 0.3 * coarse
    other = solver.solve(model, x, times, noise=OtherFresh(seeds))
    assert (converges and torch.equal(other, ends[128])) == solver.pathwise, (coarse, fine)


@pytest.mark.parametrize("sde", first("sde", "vp", "ve"))
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_float32_is_close_to_float64(name: str, sde: str) -> None:
    solver, (model, times) = make("solver", name), course(sde, 16)
    x = oracles.to_x(model.sde, oracles.starts(), times[0])
    single = run(solver, model, times, x.float())
    assert single.dtype == torch.float32
    # rounding of a start of 20 standard deviations, and the tolerance of adaptive methods
    torch.testing.assert_close(single.double(), run(solver, model, times, x), rtol=0, atol=1e-4)


class Watched(Denoiser):
    """A denoiser that writes down when it is asked."""

    def __init__(self, inner: Denoiser) -> None:
        super().__init__()
        self.inner, self.sde, self.asked = inner, inner.sde, []  # type: ignore[var-annotated]

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
        self.asked += t.reshape(-1).tolist()
        return self.inner(x_t, t, **cond)


@pytest.mark.parametrize("name", SOLVERS)
def test_steps_are_those_of_the_grid(name: str) -> None:
    """score_sde's Euler-Maruyama steps by 1 / N on a grid of another spacing (defect 3)."""
    solver, sde = coarse(name), make("sde", "vp")
    (inner, times), path = course("vp", 5, range_of(name)), Trajectory()
    model = Watched(inner)
    seen: list[StepInfo] = []
    x = oracles.to_x(sde, oracles.starts(), times[0])
    end = run(solver, model, times, x, hooks=(path, seen.append))
    assert path.times == times.tolist()
    assert [info.index for info in seen] == [0, 1, 2, 3, 4]
    assert {info.steps for info in seen} == {5}
    assert torch.equal(path.states[0], x)
    assert torch.equal(path.states[-1], end)
    assert float(times[-1]) <= min(model.asked) <= max(model.asked) <= float(times[0])
    assert torch.equal(end, run(solver, model, times, x)), "hooks must not change the samples"


TABLES = [name for name in SOLVERS if isinstance(make("solver", name), TableSolver)]


@pytest.mark.parametrize("name", TABLES)
def test_coefficients_are_computed_once_per_grid_and_process(name: str) -> None:
    """A second batch on the same grid gets the same table; another grid, process or solver gets another."""
    solver, (model, times) = make("solver", name), course("vp", 5, MIDDLE)
    x = oracles.to_x(model.sde, oracles.starts(2), times[0])
    table = solver.init(model, x, times).table
    assert solver.init(model, x, times.clone()).table is table
    other, other_times = course("ve", 5, MIDDLE)
    assert dataclasses.replace(solver).init(model, x, times).table is not table
    assert solver.init(model, x, times[:-1]).table is not table
    assert solver.init(other, x, other_times).table is not table


@pytest.mark.parametrize("name", sorted(UNSTABLE))
def test_a_grid_on_which_a_solver_is_unstable_is_refused(name: str) -> None:
    model, times = course("vp", 2)
    with pytest.raises(ValueError, match=r"is unstable on this grid: .* expected at most 3; use more steps"):
        run(make("solver", name), model, times, torch.zeros(1, 2))


@pytest.mark.parametrize("name", SOLVERS)
def test_refuses_times_that_do_not_move(name: str) -> None:
    """Duplicate times and a last step of no length stood in releases of diffusers (defect 11)."""
    model, x = oracles.denoiser(make("sde", "vp")), torch.zeros(1, 2)
    for times in ([0.5], [0.5, 0.5], [0.9, 0.5, 0.5], [0.9, 0.5, 0.7], [0.9, float("nan")]):
        with pytest.raises(ValueError, match="times must be"):
            run(make("solver", name), model, torch.tensor(times, dtype=torch.float64), x)


STEPPING = [name for name in SOLVERS if hasattr(make("solver", name), "step")]


@pytest.mark.parametrize("name", STEPPING)
def test_forgets_samples_that_were_replaced(name: str) -> None:
    """After reinit, a step depends on the samples it is given, not on those that the state has seen."""
    solver, (model, times) = make("solver", name), course("vp", 8, (2.0, 0.1))
    x = oracles.to_x(model.sde, oracles.starts(), times[0])[:4]

    def after(x: Tensor) -> Tensor:
        noise, state = PerSample(range(4)), solver.init(model, x, times)
        for t, s in pairwise(times[:6]):
            x, state = solver.step(model, x, t, s, state, noise)
        placed = torch.linspace(-1, 1, 8).double().reshape(4, 2)
        for t, s in pairwise(times[5:8]):
            state = solver.reinit(model, placed, torch.stack([t, s]), state)
            placed, state = solver.step(model, placed, t, s, state, noise)
        return placed

    assert torch.equal(after(x), after(-2 * x))


@pytest.mark.parametrize("name", STEPPING)
def test_steps_from_replaced_samples_approach_the_flow(name: str) -> None:
    """With reinit before every step a solver is of order 1 at least, and makes the evaluations that it declares."""
    solver = make("solver", name)

    def solve(steps: int) -> tuple[float, int]:
        model, times = course("vp", steps, (2.0, 0.05))
        first, last = passing(*(2.0, 0.05))
        x = oracles.to_x(model.sde, first, times[0])
        noise, state = PerSample(range(len(x))), solver.init(model, x, times)
        with NFECounter(model) as counter:
            for t, s in pairwise(times.unbind()):
                state = solver.reinit(model, x, torch.stack([t, s]), state)
                x, state = solver.step(model, x, t, s, state, noise)
        return float(np.sqrt(np.mean((oracles.to_z(model.sde, x, times[-1]) - last) ** 2))), counter.calls

    (coarse, calls), (fine, _) = solve(8), solve(32)
    assert calls == solver.nfe_reinit(8)
    assert solver.stochastic or fine < 0.3 * coarse


COUPLED = sorted(set(SOLVERS) - set(UNCOUPLED))


@pytest.mark.parametrize("name", COUPLED)
def test_who_declares_to_couple_samples_does(name: str) -> None:
    """Beside a sample whose path is more curved, and which so shortens the common steps, another ends elsewhere."""
    solver, (model, times) = make("solver", name), course("vp", 5)
    x = oracles.to_x(model.sde, oracles.starts(), times[0])[:4]
    x[1:] *= 30
    alone = solver.solve(model, x[:1], times, noise=PerSample([0]))
    assert not torch.equal(run(solver, model, times, x)[:1], alone)


@pytest.mark.parametrize(
    "around",
    [
        lambda inner: PredictorCorrector(predictor=inner),
        lambda inner: Projection(
            operator=Mask(mask=torch.tensor([True, False])), y=torch.ones(1, 2), inner=inner
        ),
    ],
)
def test_a_solver_around_another_couples_what_that_couples(around: Any) -> None:
    coupled = PredictorCorrector(corrector=BatchLangevin())
    assert around(coupled).batch_coupled
    assert not around(DDIM()).batch_coupled
    assert PredictorCorrector(corrector=BatchLangevin()).batch_coupled
