"""The tuner on exact denoisers: its reference, its choice, and times that it moves."""

import numpy as np
import pytest
import torch

from sde_gen.grid import LogSNR, Uniform
from sde_gen.noise import PerSample
from sde_gen.solver import DDIM, Ancestral, DPMSolverPP, Heun, TorchDiffEq
from sde_gen.tuner import Tuner
from tests import oracles
from tests.catalogue import make, names

SOLVERS = {"ddim": DDIM(), "dpm_solver_pp": DPMSolverPP(), "heun": Heun()}
GRIDS = {"log_snr": LogSNR(ratio_max=20.0), "uniform": Uniform()}


def tuner(sde: str = "vp", seeds=range(24), **more) -> Tuner:
    given = {"solvers": SOLVERS, "grids": GRIDS, **more}
    return Tuner(denoiser=oracles.denoiser(make("sde", sde)), shape=(2,), seeds=seeds, **given)


@pytest.mark.parametrize("sde", names("sde"))
def test_reference_is_the_flow(sde: str) -> None:
    """Against an eighth-order method on the mixture's definition; the tuner works in float32."""
    found = tuner(sde)
    times = oracles.ratio_times(found.denoiser.sde, 4)
    reference = found.reference(times)
    start = float(found.denoiser.sde.sigma(times[0])) * PerSample(range(24)).fresh(torch.empty(24, 2))
    exact = oracles.flow(oracles.to_z(found.denoiser.sde, start, times[0]), *oracles.RATIOS)
    assert np.abs(oracles.to_z(found.denoiser.sde, reference.x, times[-1]) - exact).max() < 2e-4
    assert reference.error < 1e-4


def test_candidates_spend_what_they_may() -> None:
    found = {(c.solver, c.grid): c for c in tuner().candidates(7)}
    assert len(found) == 6
    assert found["heun", "log_snr"].steps == 3
    assert found["heun", "log_snr"].nfe == 6
    assert found["ddim", "uniform"].steps == found["ddim", "uniform"].nfe == 7
    assert {c.solver for c in tuner().candidates(1)} == {"ddim", "dpm_solver_pp"}


def test_errors_are_those_of_the_settings() -> None:
    found = tuner()
    by = {
        (c.solver, c.steps): found.errors(c).median()
        for n in (8, 32)
        for c in found.candidates(n)
        if c.grid == "log_snr"
    }
    assert by["dpm_solver_pp", 32] < by["ddim", 32] < by["ddim", 8]
    assert by["ddim", 32] / by["ddim", 8] == pytest.approx(0.25, rel=0.4)  # of order 1
    assert by["dpm_solver_pp", 32] / by["dpm_solver_pp", 8] < 0.15  # of order 2


def test_moved_times_err_less_on_noise_that_moved_them_and_on_other_noise() -> None:
    (start,) = (c for c in tuner().candidates(6) if (c.solver, c.grid) == ("dpm_solver_pp", "uniform"))
    moved = tuner().optimise(start)
    assert (float(moved.times[0]), float(moved.times[-1])) == pytest.approx(
        (float(start.times[0]), float(start.times[-1]))
    )
    assert bool((moved.times.diff() < 0).all())
    for seeds in (range(24), range(100, 148)):
        judge = tuner(seeds=seeds)
        assert judge.errors(moved).median() < 0.7 * judge.errors(start).median()


def test_progress_is_told() -> None:
    told = []
    found = tuner(progress=lambda: told.append(1))
    found.errors(found.candidates(5)[0])
    assert len(told) > 2


def test_refuses_what_it_cannot_compare() -> None:
    for solver in (Ancestral(), TorchDiffEq()):
        with pytest.raises(ValueError, match="draws noise or chooses"):
            tuner(solvers={"it": solver})
