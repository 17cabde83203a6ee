"""Comparing solvers on exact denoisers: every grid has a reference between its own ends."""

import numpy as np
import pytest
import torch

from sde_gen.data.codec import Affine
from sde_gen.data.codec import UniformCodec as DiscreteData
from sde_gen.evaluation.solver_comparison import Comparison, refine_grid
from sde_gen.grid import Angle, Grid, Listed, Uniform
from sde_gen.noise import Brownian
from sde_gen.solver import (
    Ancestral,
    DPMSolverPP,
    DPMSolverPP3M,
    EDMChurn,
    EulerMaruyama,
    Heun,
    Solver,
)
from sde_gen.solver.ode_solver import torch_diffeq
from tests.helpers import oracles
from tests.helpers.catalogue import make, names

SDES = names("sde")
GRIDS = [name for name in names("grid") if not name.startswith("listed")]


def errors(solver: Solver, grids: list[Grid], steps: list[int], sde: str = "vp", **more) -> list[float]:
    """Median errors on every grid with every number of steps."""
    model = oracles.denoiser(make("sde", sde))
    courses = [grid(model.sde, count) for grid in grids for count in steps]
    compared = Comparison(denoiser=model, network=model, shape=(2,), grids=courses, seeds=range(8), **more)
    return [float(measured.errors.median()) for measured in compared.measure(solver)]


@pytest.mark.long
@pytest.mark.parametrize("name", GRIDS)
def test_errors_fall_on_every_grid(name: str) -> None:
    """Grids that choose from a table of times begin and end elsewhere with every number of steps."""
    sde = "rectified" if name == "shifted" else "vp"  # the process that the shift is defined for
    coarse, fine = errors(DPMSolverPP(), [make("grid", name)], [10, 200], sde)
    assert fine < 0.1 * coarse
    assert errors(DPMSolverPP(), [make("grid", name)], [10], sde) == pytest.approx([coarse], rel=0.01)


@pytest.mark.parametrize("name", ["ddpm_leading", "uniform", "angle"])
def test_errors_on_a_brownian_path_fall_too(name: str) -> None:
    coarse, fine = errors(Ancestral(), [make("grid", name)], [10, 100])
    assert fine < 0.3 * coarse


@pytest.mark.parametrize("sde", SDES)
def test_a_list_of_times_is_compared_with_the_flow(sde: str) -> None:
    """Against an eighth-order method on the mixture's definition."""
    model = oracles.denoiser(make("sde", sde))
    times = oracles.ratio_times(model.sde, 3)
    compared = Comparison(
        denoiser=model, network=model, shape=(2,), grids=[times], seeds=range(8), reference_steps=150
    )
    (measured,) = compared.measure(Heun())
    assert measured.nfe == 6
    start = float(model.sde.sigma(times[0])) * Brownian(range(8)).normal(torch.empty(8, 2))
    z = oracles.to_z(model.sde, start, times[0])
    exact = oracles.flow(z, *oracles.RATIOS)
    ends = oracles.to_z(model.sde, compared.solve(Heun(), times), times[-1])
    alpha = float(model.sde.alpha(times[-1]))
    np.testing.assert_allclose(
        measured.errors, alpha * np.sqrt(np.mean((ends - exact) ** 2, 1)), rtol=0.02, atol=1e-5
    )


@pytest.mark.parametrize("sde", SDES)
def test_refined_grids_keep_their_times(sde: str) -> None:
    process = make("sde", sde)
    for grid in (Uniform(), Angle(), Listed(times=(1.0, 0.5, 0.01))):
        times = grid(process, 2)
        fine = refine_grid(process, times, 29)
        assert torch.equal(fine[::16], times), "an even number of parts"
        assert bool((fine.diff() < 0).all())
        assert len(fine) == 33
    assert len(refine_grid(process, times, 1)) == 9, "four times as fine at least"


def test_a_reference_that_steps_is_the_same_flow() -> None:
    grids = [Angle(), Listed(times=(1.0, 0.9, 0.6, 0.2, 0.05))]
    adaptive, steps = (
        errors(DPMSolverPP(), grids, [4], reference=reference)
        for reference in (torch_diffeq(), DPMSolverPP3M())
    )
    assert adaptive == pytest.approx(steps, rel=0.01)


@pytest.mark.parametrize("solver", [Heun(), Ancestral()], ids=["flow", "noise"])
def test_references_know_their_own_error(solver: Solver) -> None:
    """Against references of four times as many steps; of order 1 it is half of the error of half the steps."""
    model = oracles.denoiser(make("sde", "vp"))
    grids = [Uniform()(model.sde, 3)]
    given = {"denoiser": model, "network": model, "shape": (2,), "grids": grids, "seeds": range(8)}
    compared, finer = (
        Comparison(reference=DPMSolverPP(), reference_steps=n, stochastic_steps=n, **given) for n in (96, 384)
    )
    (found,) = compared.measure(solver)
    ends = [each._fine(solver, (float(grids[0][0]), float(grids[0][-1]))).x for each in (compared, finer)]
    true = float((ends[0] - ends[1]).double().square().mean(1).sqrt().median())
    assert found.reference_error is not None
    assert 0.5 < found.reference_error / true < 5


def test_fresh_noise_has_no_error_on_a_path() -> None:
    model = oracles.denoiser(make("sde", "vp"))
    compared = Comparison(
        denoiser=model, network=model, shape=(2,), grids=[oracles.ratio_times(model.sde, 5)], seeds=[1, 2]
    )
    (measured,) = compared.measure(EDMChurn())
    assert measured.errors is None
    assert measured.nfe == 10


def test_refuses_before_the_work() -> None:
    model = oracles.denoiser(make("sde", "rectified"))
    given = {"denoiser": model, "network": model, "shape": (2,), "seeds": [0]}
    with pytest.raises(ValueError, match="deterministic"):
        Comparison(grids=[], reference=Ancestral(), **given)
    compared = Comparison(grids=[Uniform()(model.sde, 3)], **given)
    with pytest.raises(ValueError, match="infinite"):
        compared.check(make("solver", "euler_maruyama"))


def test_says_how_many_values_are_out_of_the_codec_s_range() -> None:
    """The mixture lies well within [-4, 4]; much noise in so few steps leaves it."""
    model = oracles.denoiser(make("sde", "vp"))
    times, wild_solver = oracles.ratio_times(model.sde, 10), EulerMaruyama(eta=3.0)
    for codec in (DiscreteData(levels=16, low=-4.0, high=4.0), Affine()):
        compared = Comparison(
            denoiser=model, network=model, shape=(2,), grids=[times], seeds=range(8), codec=codec
        )
        (good,), (wild,) = compared.measure(Heun()), compared.measure(wild_solver)
        if codec.limits is None:
            assert good.outside is wild.outside is None
            continue
        assert (good.outside.share, good.outside.notable) == (0, False)
        x = compared.solve(wild_solver, times).double()
        edge = 4 + 0.8 + 4 * float(model.sde.sigma(times[-1]))
        assert wild.outside.share == float((x.abs() > edge).double().mean()) > 0
        assert wild.outside.notable
