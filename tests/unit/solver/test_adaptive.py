"""Adaptive solvers: tolerances, orders of one step, samples that leave the batch, and ends in words."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from sde_gen.denoiser import Denoiser
from sde_gen.denoiser.prediction import Prediction
from sde_gen.grid import Uniform
from sde_gen.noise import IID
from sde_gen.ode import (
    BogackiShampine,
    DormandPrince,
    Interval,
    PIController,
    Solution,
    integrate_adaptive,
)
from sde_gen.ode.adaptive_runge_kutta import FlatField
from sde_gen.solver import DPMAdaptive, Solver
from sde_gen.solver._adaptive import AdaptiveSolver
from sde_gen.solver.callbacks import NFECounter, StepInfo, StopOnNaN, Trajectory
from sde_gen.solver.ode_solver import (
    ODESolver,
    VelocityField,
    bogacki_shampine,
    dormand_prince,
    scipy_ode,
    torch_diffeq,
)
from tests.helpers import oracles
from tests.helpers.catalogue import make, names

KINDS = {
    "dormand_prince": dormand_prince,
    "bogacki_shampine": bogacki_shampine,
    "dpm_12": lambda **kwargs: DPMAdaptive(higher_order=2, **kwargs),
    "dpm_23": DPMAdaptive,
}
ORDERS = {"dormand_prince": 5, "bogacki_shampine": 3, "dpm_12": 2, "dpm_23": 3}
INSIDE = {"dormand_prince": 3, "bogacki_shampine": 3, "dpm_12": 2, "dpm_23": 2}
"""Orders of the interpolation between the ends of a step."""


def setting(
    count: int = 24, steps: int = 1, sde: str = "vp", event: tuple[int, ...] = (2,)
) -> tuple[Denoiser, Tensor, Tensor]:
    """The exact denoiser, starts and times."""
    process = make("sde", sde)
    times = oracles.ratio_times(process, steps)
    x = oracles.to_x(process, oracles.starts(count), times[0]).reshape(-1, *event)
    return oracles.denoiser(process, event=event), x, times


def flow_of(solver: ODESolver, model: Denoiser, x: Tensor, times: Tensor) -> tuple[FlatField, Tensor]:
    """The flow in the solver's variable as a field on matrices, and its scales at the times."""
    variable = solver.variable(model.sde)
    u, t = variable.from_time(times)[[0, -1]], times[[0, -1]]
    return FlatField(VelocityField(model, variable, u, t, torch.arange(len(x))), (x,)), variable.coefficients(
        times
    ).scale


def integrate(solver: AdaptiveSolver | ODESolver, model: Denoiser, x: Tensor, times: Tensor) -> Solution:
    """Integrate, counting evaluations of every sample."""
    if isinstance(solver, AdaptiveSolver):
        return solver.integrate(model, x, times)
    flat, scale = flow_of(solver, model, x, times)
    method, u = solver.integrator, solver.variable(model.sde).from_time(times)
    controller = PIController(error_order=method.error_order)
    solution = integrate_adaptive(method, flat, flat.pack((x / scale[0],)), u, controller=controller)
    return solution._replace(x=scale[-1] * flat.unpack(solution.x)[0])


def error_at(solver: AdaptiveSolver, sde: str = "vp") -> float:
    model, x, times = setting(sde=sde)
    end = oracles.to_z(model.sde, integrate(solver, model, x, times).x, times[-1])
    return float(np.sqrt(np.mean((end - oracles.ends()) ** 2)))


# Tolerances and orders


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_error_follows_the_tolerance(kind: str) -> None:
    """Over four decades (three where steps are many) the error stays by the tolerance."""
    tols = [1e-3, 1e-4, 1e-5] if kind == "dpm_12" else [1e-3, 1e-5, 1e-7]
    errors = [error_at(KINDS[kind](rtol=tol, atol=tol)) for tol in tols]
    slope = np.polyfit(np.log(tols), np.log(errors), 1)[0]
    assert 0.8 < slope < 1.3, errors
    assert max(np.array(errors) / tols) < 20, errors


def one_step(kind: str, length: float) -> tuple[float, float, float]:
    """Errors of a step's end, of its estimate and of its middle, in units of x / alpha."""
    solver = KINDS[kind](rtol=1e-300, atol=1.0)
    model, first = oracles.denoiser(make("sde", "vp")), oracles.flow(oracles.starts(), 20.0, 1.0)
    sde = model.sde
    variable = solver.variable(model if isinstance(solver, AdaptiveSolver) else sde)
    t = sde.t_from_log_snr(torch.zeros(24).double())
    u = variable.from_time(t)
    way = 1.0 if kind.startswith("dpm") else -1.0
    spots = [variable.to_time(u + part * way * length) for part in (0.5, 1.0)]
    ends = [oracles.flow(first, 1.0, float(torch.exp(-0.5 * sde.log_snr(spot[0])))) for spot in spots]
    x = oracles.to_x(sde, first, t[0])
    v, half = u + way * length, u[0] + 0.5 * way * length
    if isinstance(solver, AdaptiveSolver):
        attempt = solver.attempt(model, x, solver.slope(model, x, t), Interval(u, v, t, spots[1]))
        states = attempt.dense_output(half, spots[0][0]), attempt.x
    else:
        grid = torch.stack([t[0], spots[0][0], spots[1][0]])
        (flat, scale), method = flow_of(solver, model, x, grid), solver.integrator
        y = flat.pack((x / scale[0],))
        attempt = method.attempt(flat, y, method.slope(flat, y, u), Interval(u, v, u, v))
        states = scale[1] * attempt.dense_output(half, half), scale[2] * attempt.x
    found = [oracles.to_z(sde, y, spot[0]) for y, spot in zip(states, spots, strict=True)]
    off = [float(np.sqrt(np.mean((z - end) ** 2))) for z, end in zip(found, ends, strict=True)]
    return off[1], float(attempt.error.square().mean().sqrt()), off[0]


def order_between(kind: str, long: float, short: float) -> list[float]:
    """Slopes of the three errors between two lengths."""
    ends = zip(one_step(kind, long), one_step(kind, short), strict=True)
    return [float(np.log(a / b) / np.log(long / short)) for a, b in ends]


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_has_its_orders(kind: str) -> None:
    """One step is off by h^(order + 1), its estimate goes like h^exponent, as the choice of steps supposes."""
    long = 0.1 if ORDERS[kind] == 5 else 0.025  # shorter steps of order 5 are more exact than their reference
    step, _, inside = order_between(kind, long, 0.25 * long)
    assert step >= ORDERS[kind] + 1 - 0.25, step
    assert inside >= INSIDE[kind] + 1 - 0.25, inside
    _, estimate, _ = order_between(kind, 0.02, 0.0025)  # needs no exact flow to compare with
    assert estimate == pytest.approx(
        getattr(KINDS[kind](), "integrator", KINDS[kind]()).error_order, abs=0.25
    )


@pytest.mark.parametrize("pair", [DormandPrince, BogackiShampine])
def test_tableaux_are_consistent(pair: type[DormandPrince]) -> None:
    """Nodes are the sums of their rows, both methods' weights sum to 1, and the last stage is the step's end."""
    table = pair.pair.tableau
    assert [sum(row) for row in table.a] == pytest.approx(table.c[1:], abs=1e-14)
    assert sum(table.b) == pytest.approx(1, abs=1e-14)
    assert sum(pair.pair.error) == pytest.approx(0, abs=1e-14)
    assert (*table.a[-1], 0) == table.b


@pytest.mark.parametrize("pair", [dormand_prince, bogacki_shampine])
def test_the_process_does_not_matter(pair: Callable[..., ODESolver]) -> None:
    """At the same ratios sigma / alpha the same steps lead to the same samples, by as many evaluations."""
    ends, counts = [], []
    for sde in names("sde"):
        model, x, times = setting(sde=sde)
        solution = integrate(pair(rtol=1e-3, atol=1e-3), model, x, times)
        ends.append(oracles.to_z(model.sde, solution.x, times[-1]))
        counts.append(solution.nfe.tolist())
    assert np.abs(ends[0] - oracles.ends()).max() > 1e-4
    for end, count in zip(ends, counts, strict=True):
        np.testing.assert_allclose(end, ends[0], rtol=0, atol=1e-6)
        assert count == counts[0]


@pytest.mark.parametrize("kind", KINDS)
def test_solve_returns_the_end_of_the_integration(kind: str) -> None:
    solver = KINDS[kind](rtol=1e-3, atol=1e-3)
    model, x, times = setting()
    end = solver.solve(model, x, times, noise=IID.seeded(0))
    torch.testing.assert_close(end, integrate(solver, model, x, times).x, rtol=0, atol=0)


# Samples and their batch


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_samples_are_independent_of_their_batch(kind: str) -> None:
    """Alone, among 7 and among 64: the same steps, the same sample."""
    solver = KINDS[kind](rtol=1e-4, atol=1e-4)
    model, x, times = setting(64)
    many = integrate(solver, model, x, times)
    for rows in (slice(0, 7), slice(3, 4), slice(60, 61)):
        few = integrate(solver, model, x[rows], times)
        torch.testing.assert_close(few.x, many.x[rows], rtol=1e-12, atol=1e-12)
        assert torch.equal(few.nfe, many.nfe[rows])
        assert torch.equal(few.rejected, many.rejected[rows])
    assert len(many.nfe.unique()) > 1, "nothing that everyone gets right"


@pytest.mark.parametrize("kind", KINDS)
def test_finished_samples_leave_the_batch(kind: str) -> None:
    model, x, times = setting(64)
    with NFECounter(model) as counter:
        solution = integrate(KINDS[kind](rtol=1e-4, atol=1e-4), model, x, times)
    assert counter.samples == int(solution.nfe.sum())
    assert counter.samples < counter.calls * len(x)
    if kind == "dormand_prince":
        assert counter.calls == int(solution.nfe.max())
        assert ((solution.nfe - 1) % 6 == 0).all()


class Moved(Denoiser):
    """The exact denoiser of a mixture, moved by a vector for every sample: conditioning, or a measurement."""

    def __init__(self, inner: Denoiser, own: Tensor | None = None) -> None:
        super().__init__()
        self.inner, self.sde, self.own = inner, inner.sde, own

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
        by = cond["by"] if self.own is None else self.own
        assert len(by) == len(x_t)
        alpha = self.sde.marginal(t, like=x_t).alpha
        prediction = self.inner(x_t - alpha * by, t)
        return replace(prediction, x_t=x_t, x0=prediction.x0 + by)


@pytest.mark.parametrize("held", ["bound", "own"])
@pytest.mark.parametrize("kind", KINDS)
def test_conditions_follow_their_samples(kind: str, held: str) -> None:
    """Labels and measurements stay with their samples when others leave the batch."""
    inner, x, times = setting(16)
    by = torch.linspace(-1, 1, 32, dtype=torch.float64).reshape(16, 2)
    x = x + inner.sde.alpha(times[0]) * by
    solver = KINDS[kind](rtol=1e-3, atol=1e-3)

    def model(rows: slice) -> Denoiser:
        return Moved(inner).bind(by=by[rows]) if held == "bound" else Moved(inner, by[rows])

    many = integrate(solver, model(slice(None)), x, times)
    assert len(many.nfe.unique()) > 1
    for row in (0, 7, 15):
        rows = slice(row, row + 1)
        alone = integrate(solver, model(rows), x[rows], times)
        torch.testing.assert_close(alone.x, many.x[rows], rtol=1e-11, atol=1e-11)


# Ends, hooks and edges


@cache
def straight() -> tuple[Denoiser, Tensor, Tensor, Tensor]:
    """A path of the straight process from t = 1."""
    sde = make("sde", "rectified")
    model, x = oracles.denoiser(sde), IID.seeded(3).normal(torch.empty(16, 2).double())
    times = torch.tensor([1.0, 0.05]).double()
    exact = torch_diffeq(method="dopri8", rtol=1e-11, atol=1e-12).solve(model, x, times, noise=IID.seeded(0))
    return model, x, exact, times


@pytest.mark.parametrize("kind", ["dormand_prince", "bogacki_shampine"])
def test_adaptive_solver_integrates_through_zero_signal(kind: str) -> None:
    model, x, exact, times = straight()
    solver = KINDS[kind](rtol=1e-7, atol=1e-7)
    down = integrate(solver, model, x, times).x
    torch.testing.assert_close(down, exact, rtol=0, atol=1e-6)
    up = integrate(solver, model, exact, times.flip(0)).x
    torch.testing.assert_close(up, x, rtol=0, atol=1e-5)


@pytest.mark.parametrize("up", [False, True], ids=["down", "up"])
@pytest.mark.parametrize("kind", ["dpm_12", "dpm_23"])
def test_noise_prediction_refuses_to_pass_without_signal(kind: str, up: bool) -> None:
    sde, solver = make("sde", "rectified"), KINDS[kind](rtol=1e-2, atol=1e-2)
    times = Uniform()(sde, 3)
    with pytest.raises(ValueError, match="t_max below 1"):
        integrate(solver, oracles.denoiser(sde), torch.zeros(1, 2), times.flip(0) if up else times)
    integrate(solver, oracles.denoiser(sde), torch.zeros(1, 2), Uniform(t_max=0.999)(sde, 3))


@cache
def on_the_way(rho: float) -> oracles.Array:
    """Where the paths are at a ratio, for all solvers."""
    return oracles.flow(oracles.starts(), oracles.RATIOS[0], rho)


@pytest.mark.parametrize("solver", [*(kind() for kind in KINDS.values()), scipy_ode()], ids=[*KINDS, "scipy"])
def test_hooks_see_the_flow(solver: Solver) -> None:
    """Samples between the solver's steps are on the paths."""
    model, x, times = setting(steps=8)
    path, seen = Trajectory(), []
    end = solver.solve(model, x, times, noise=IID.seeded(0), hooks=[path, seen.append])
    assert torch.equal(path.states[-1], end)
    assert all(isinstance(info, StepInfo) and info.steps == 8 for info in seen)
    for t, state in zip(times, path.states, strict=True):
        rho = float(torch.exp(-0.5 * model.sde.log_snr(t)))
        exact = on_the_way(rho)
        spread = np.sqrt(1 + rho**2)
        assert np.abs(oracles.to_z(model.sde, state, t) - exact).max() < 2e-2 * spread, float(t)


class Broken(Denoiser):
    """A denoiser that returns NaN for one sample below a time."""

    def __init__(self, inner: Denoiser, below: float) -> None:
        super().__init__()
        self.inner, self.sde, self.below = inner, inner.sde, below

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
        prediction = self.inner(x_t, t)
        wrong = (t < self.below) & (torch.arange(len(x_t)) == 2)
        return replace(
            prediction,
            x0=torch.where(wrong.unsqueeze(-1), torch.nan, prediction.x0),
            eps=torch.where(wrong.unsqueeze(-1), torch.nan, prediction.eps),
        )


@pytest.mark.parametrize("kind", KINDS)
def test_nan_stops_with_step_time_and_sample(kind: str) -> None:
    model, x, times = setting(4)
    step = "in step 1, from " if kind.startswith("dpm") else ""
    with pytest.raises(FloatingPointError, match=rf"{step}t=0\.77.* in samples \[2\].*NaN"):
        integrate(KINDS[kind](), Broken(model, 2.0), x, times)
    with pytest.raises(FloatingPointError, match=r"t=0\.[2-7].* in samples \[2\].*NaN"):
        integrate(KINDS[kind](), Broken(model, 0.3), x, times)


@pytest.mark.parametrize("kind", KINDS)
def test_failure_to_converge_is_explained(kind: str) -> None:
    model, x, times = setting(4)
    solver = KINDS[kind](rtol=1e-4, atol=1e-4, max_steps=3)
    with pytest.raises(FloatingPointError, match=r"gave up after 3 steps at t=.*max_steps=3; give larger"):
        integrate(solver, model, x, times)
    enough = int((integrate(KINDS[kind](rtol=1e-4, atol=1e-4), model, x, times)).nfe.max())
    integrate(KINDS[kind](rtol=1e-4, atol=1e-4, max_steps=enough), model, x, times)


def test_a_tolerance_below_rounding_is_out_of_reach() -> None:
    model, x, times = setting(4)
    with pytest.raises(FloatingPointError, match="float64 samples"):
        integrate(dormand_prince(rtol=1e-12, atol=1e-12, max_steps=100), model, x.float(), times)


@pytest.mark.parametrize("value", [0.0, -1e-3, float("inf"), float("nan")])
@pytest.mark.parametrize("name", ["rtol", "atol", "middle"])
def test_invalid_numbers_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name}="):
        dormand_prince(**{name: value})
    if name != "middle":
        for kind in (DPMAdaptive, bogacki_shampine, scipy_ode):
            with pytest.raises(ValueError, match=f"{name}="):
                kind(**{name: value})


def test_invalid_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="max_steps=0"):
        dormand_prince(max_steps=0)
    with pytest.raises(ValueError, match="higher_order=1"):
        DPMAdaptive(higher_order=1)
    with pytest.raises(ValueError, match="LSODA"):
        scipy_ode(method="LSODA")


# SciPy


@pytest.mark.parametrize("method", ["RK45", "RK23", "DOP853"])
def test_scipy_keeps_its_tolerance(method: str) -> None:
    model, x, times = setting()
    errors = []
    for tol in (1e-3, 1e-6):
        end = scipy_ode(method=method, rtol=tol, atol=tol).solve(model, x, times, noise=IID.seeded(0))
        errors.append(np.sqrt(np.mean((oracles.to_z(model.sde, end, times[-1]) - oracles.ends()) ** 2)))
    assert errors[0] < 2e-2
    assert errors[1] < 2e-5


def test_scipy_starts_where_there_is_no_signal() -> None:
    model, x, exact, times = straight()
    end = scipy_ode(rtol=1e-7, atol=1e-7).solve(model, x, times, noise=IID.seeded(0), hooks=[StopOnNaN()])
    torch.testing.assert_close(end, exact, rtol=0, atol=1e-5)


def test_scipy_stops_at_nan() -> None:
    model, x, times = setting(4)
    with pytest.raises(FloatingPointError, match="not finite at t=0"):
        scipy_ode().solve(Broken(model, 0.3), x, times, noise=IID.seeded(0))
