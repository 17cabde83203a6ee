"""The tuner on exact denoisers: its reference, its choice, and times that it moves."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from sde_gen.evaluation.solver_tuning import SolverSetting, Tuner, candidate_settings
from sde_gen.grid import Angle, Listed, LogSNR, Uniform
from sde_gen.noise import PerSample
from sde_gen.solver import DDIM, Ancestral, DPMSolverPP, DPMSolverPP3M, Heun, StraightAdams
from sde_gen.solver.ode_solver import torch_diffeq
from tests.helpers import oracles
from tests.helpers.catalogue import make, names

SOLVERS = {"ddim": DDIM(), "dpm_solver_pp": DPMSolverPP(), "heun": Heun()}
GRIDS = {"log_snr": LogSNR(ratio_max=20.0), "uniform": Uniform()}


def tuner(settings, sde: str = "vp", seeds=range(24), **more) -> Tuner:
    model, given = oracles.denoiser(make("sde", sde)), {"most_steps": 100, **more}
    return Tuner(denoiser=model, shape=(2,), settings=settings, seeds=seeds, **given)


def tried(nfe: int, sde: str = "vp") -> dict[tuple[str, str], SolverSetting]:
    return {(c.solver, c.grid): c for c in candidate_settings(make("sde", sde), SOLVERS, GRIDS, nfe)}


def on(times: torch.Tensor) -> SolverSetting:
    return SolverSetting("dpm_solver_pp_3m", "listed", DPMSolverPP3M(), times)


def clean(sde, times: torch.Tensor, count: int = 24) -> torch.Tensor:
    """Clean samples by an eighth-order method on the mixture's definition, between the ends of a grid."""
    start = float(sde.sigma(times[0])) * PerSample(range(count)).normal(torch.empty(count, 2))
    ratios = torch.exp(-0.5 * sde.log_snr(times[[0, -1]])).tolist()
    exact = oracles.flow(oracles.to_z(sde, start, times[0]), *ratios)
    return oracles.denoiser(sde)(oracles.to_x(sde, exact, times[-1]), times[-1]).x0


@pytest.mark.parametrize("sde", names("sde"))
def test_reference_is_the_flow(sde: str) -> None:
    """The tuner works in float32."""
    times = oracles.ratio_times(make("sde", sde), 4)
    found = tuner([on(times)], sde)
    assert found.reference.x.numpy() == pytest.approx(clean(found.denoiser.sde, times).numpy(), abs=2e-5)
    assert found.reference.error < 1e-5


@pytest.mark.parametrize("sde", names("sde"))
def test_reference_stays_between_the_ends_of_the_settings(sde: str) -> None:
    """Rounding included: a network is asked there only."""
    setting, asked = on(Uniform()(make("sde", sde), 3)), []
    found = tuner([setting], sde, seeds=[0])
    found.denoiser.register_forward_pre_hook(lambda _, given: asked.append(float(given[1])))
    assert found.reference
    assert [max(asked), min(asked)] == setting.times[[0, -1]].tolist()


@pytest.mark.parametrize("sde", ["vp", "rectified"])
def test_settings_with_other_ends_are_held_to_the_same_clean_samples(sde: str) -> None:
    """Converged solutions that begin late or end early err by what they leave out."""
    process = make("sde", sde)
    whole = oracles.ratio_times(process, 400)
    early, late = whole[:201], whole[100:]
    found = tuner([on(early), on(whole), on(late)], sde)
    best = clean(process, whole)
    for times in (early, late):
        missed = (clean(process, times) - best).square().mean(1).sqrt()
        assert float(missed.median()) > 100 * found.reference.error
        np.testing.assert_allclose(found.errors(on(times)), missed, rtol=0.02, atol=1e-4)
    assert found.errors(on(whole)).median() < 0.1 * found.errors(on(early)).median()


def test_reference_is_refined_until_it_is_good_or_long_enough() -> None:
    setting = on(Angle()(make("sde", "vp"), 5))
    good = tuner([setting], tol=1e-5, most_steps=1600).reference
    assert good.error <= 1e-5
    assert good.steps < 1600
    assert tuner([setting], tol=0.0).reference.steps == 100
    model = oracles.denoiser(make("sde", "vp"))
    usual = Tuner(denoiser=model, shape=(2,), settings=[setting], seeds=[0], tol=0.0)
    assert usual.reference.steps == 1600


def test_candidates_spend_what_they_may() -> None:
    found = tried(7)
    assert len(found) == 6
    assert found["heun", "log_snr"].steps == 3
    assert found["heun", "log_snr"].nfe == 6
    assert found["ddim", "uniform"].steps == found["ddim", "uniform"].nfe == 7
    assert {solver for solver, _ in tried(1)} == {"ddim", "dpm_solver_pp"}


def test_errors_are_those_of_the_settings() -> None:
    by = {(c.solver, n): c for n in (8, 32) for c in tried(n).values() if c.grid == "log_snr"}
    found = tuner(list(by.values()))
    error = {key: float(found.errors(setting).median()) for key, setting in by.items()}
    assert error["dpm_solver_pp", 32] < error["ddim", 32] < error["ddim", 8]
    assert error["ddim", 32] / error["ddim", 8] == pytest.approx(0.25, rel=0.4)  # of order 1
    assert error["dpm_solver_pp", 32] / error["dpm_solver_pp", 8] < 0.15  # of order 2


def test_moved_times_err_less_on_noise_that_moved_them_and_on_other_noise() -> None:
    start = tried(6)["dpm_solver_pp", "uniform"]
    moved = tuner([start]).optimize(start)
    assert moved.grid == "listed"
    assert moved.times[[0, -1]].tolist() == start.times[[0, -1]].tolist()
    assert bool((moved.times.diff() < 0).all())
    for seeds in (range(24), range(100, 148)):
        judge = tuner([start], seeds=seeds)
        assert judge.errors(moved).median() < 0.7 * judge.errors(start).median()


def test_a_single_step_has_no_times_to_move() -> None:
    start = tried(1)["ddim", "uniform"]
    assert tuner([start]).optimize(start) is start


@pytest.mark.parametrize("sde", names("sde"))
def test_times_move_from_where_there_is_no_signal(sde: str) -> None:
    """The grid begins at t = 1, where some processes have alpha = 0; the times found are a grid again."""
    start = SolverSetting("straight_adams", "uniform", StraightAdams(), Uniform()(make("sde", sde), 4))
    found = tuner([start], sde, seeds=range(8))
    moved = found.optimize(start, rounds=1)
    assert found.errors(moved).log().mean() < found.errors(start).log().mean()
    listed = Listed(times=tuple(moved.times.tolist()))
    assert torch.equal(listed(found.denoiser.sde, moved.steps), moved.times)


def test_moves_shrink_until_the_time_is_the_best() -> None:
    """One inner time, against SciPy's search on a line."""
    start = SolverSetting("ddim", "uniform", DDIM(), Uniform()(make("sde", "vp"), 2))
    found = tuner([start])

    def cost(t: float) -> float:
        times = torch.tensor([start.times[0], t, start.times[-1]], dtype=torch.float64)
        return float(found.errors(start._replace(times=times)).log().mean())

    best = minimize_scalar(cost, bounds=(0.01, 0.99), method="bounded")
    moved = found.optimize(start, rounds=20)
    assert float(moved.times[1]) == pytest.approx(best.x, rel=0.01)


def test_tuning_reports_its_progress() -> None:
    updates = []
    setting = tried(5)["ddim", "uniform"]
    tuner([setting], progress=lambda: updates.append(1)).errors(setting)
    assert len(updates) > 2


def test_refuses_what_it_cannot_compare() -> None:
    for solver in (Ancestral(), torch_diffeq()):
        with pytest.raises(ValueError, match="is stochastic or adaptive"):
            list(candidate_settings(make("sde", "vp"), {"it": solver}, GRIDS, 5))
    with pytest.raises(ValueError, match="at least one"):
        tuner([])
    start = Uniform()(make("sde", "rectified"), 3)
    with pytest.raises(ValueError, match="is zero"):
        tuner([SolverSetting("dpm_solver_3", "uniform", make("solver", "dpm_solver_3"), start)], "rectified")
