"""The benchmark command: references on every grid, solvers without an error, unused settings."""

import json

import pytest

from tests.helpers.commands import TINY, enter, mistake

QUICK = ["reference.steps=50", "reference.stochastic_steps=50"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Points in the plane, whose network is nearly free."""
    folder = tmp_path_factory.mktemp("benchmark") / "moons"
    points = ["data=moons", "codec=affine", "model=mlp", "model.width=16"]
    enter("train", *points, *TINY[3:], f"run={folder}")
    return folder


def rows(folder):
    def refuse(word):
        pytest.fail(f"{word} is no JSON")

    return json.loads((folder / "benchmark.json").read_text(), parse_constant=refuse)["rows"]


@pytest.mark.long
@pytest.mark.parametrize("grid", ["ddpm_leading", "uniform"])
def test_errors_fall_whatever_the_ends_of_the_grid(grid, run, tmp_path):
    enter(
        "benchmark",
        f"run={run}",
        "solvers=[dpm_solver_pp,ancestral]",
        f"grid={grid}",
        "steps=[10,100]",
        "n=4",
        f"out={tmp_path}",
    )
    for coarse, fine in (rows(tmp_path)[:2], rows(tmp_path)[2:]):
        assert fine["median"] < 0.5 * coarse["median"]


def test_a_list_of_times_is_a_grid_too(run, tmp_path, capfd):
    listed = ["grid=listed", "grid.times=[1,0.6,0.3,0.1]", "solvers=[heun,ancestral]"]
    enter("benchmark", f"run={run}", *listed, "steps=3", "n=2", *QUICK, f"out={tmp_path}")
    assert all(row["median"] > 0 for row in rows(tmp_path))
    assert "set steps=3" in mistake(capfd, "benchmark", f"run={run}", *listed, f"out={tmp_path}")


def test_fresh_noise_has_no_error_and_this_is_reported(run, tmp_path, capfd):
    enter("benchmark", f"run={run}", "solvers=[adaptive_sde]", "steps=2", "n=1", *QUICK, f"out={tmp_path}")
    assert rows(tmp_path)[0]["median"] is None
    assert "no error of adaptive_sde" in capfd.readouterr().out
    assert (tmp_path / "benchmark.png").exists()


def test_the_defaults_hold_what_sample_takes(run, tmp_path):
    enter("benchmark", f"run={run}", "steps=[2]", "n=1", f"out={tmp_path}")
    assert rows(tmp_path)[0]["solver"] == "straight_adams"
    assert json.loads((tmp_path / "benchmark.json").read_text())["grid"]["_target_"] == "sde_gen.grid.Angle"
    assert rows(tmp_path)[0]["se"] is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["solvers=[]"], "list of names"),
        (["solvers=[1]"], "solvers=[1]: expected a list of names"),
        (["solvers=heun,ddim"], "solvers=[heun,ddim]"),
        (["sde=ve"], "benchmark takes no sde"),
        (["solver@reference.solver=hoin"], "did you mean"),
        (["steps=[true]"], "steps=[true]: expected a list of whole numbers"),
        (["reference.stochastic_steps=0"], "stochastic_steps=0"),
        (["reference.steps=many"], "steps=many"),
        (["tune=perhaps"], "true or false"),
        (["solver@reference.solver=ancestral"], "deterministic"),
        (["grid=listed", "grid.times=[1,0.5]", "steps=2"], "set steps=1"),
        (["tuning.nfe=[5]"], "tune=true"),
        (["tune=true", "solvers=[heun]"], "solvers=[heun] has no effect"),
        (["tune=true", "steps=3"], "no effect"),
        (["tune=true", "grid=karras"], "no effect"),
        (["tune=true", "reference.steps=9"], "no effect"),
        (["tune=true", "solver@reference.solver=heun"], "no effect"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_mistakes_leave_nothing_behind(arguments, words, run, tmp_path, capfd):
    assert words in mistake(capfd, "benchmark", f"run={run}", f"out={tmp_path / 'out'}", *arguments)
    assert not (tmp_path / "out").exists()
