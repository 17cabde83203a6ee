"""Tuning a solver for a run, and sampling by what was found."""

import json
from dataclasses import replace

import pytest
import torch
from omegaconf import OmegaConf

from sde_gen.cli.config_files import load
from sde_gen.cli.tuning.choice import evaluate_selection
from sde_gen.cli.tuning.report import notes
from sde_gen.evaluation.solver_tuning import Tuner, candidate_settings
from sde_gen.grid import Angle, Uniform
from sde_gen.solver import DPMSolverPP
from tests.helpers import oracles
from tests.helpers.catalogue import make
from tests.helpers.commands import enter, mistake

LITTLE = [
    "tune=true",
    "n=3",
    "tuning.nfe=[2,4]",
    "tuning.optimize=[4]",
    "tuning.solvers=[ddim]",
    "tuning.grids=[karras]",
]


@pytest.fixture(scope="module")
def run(trained, tmp_path_factory):
    return trained(tmp_path_factory.mktemp("tuning") / "digits")


@pytest.mark.long
def test_leaves_settings_that_the_sampler_takes(run, tmp_path, capfd):
    enter("benchmark", f"run={run}", *LITTLE, f"out={tmp_path}")
    printed = capfd.readouterr().out
    found = json.loads((tmp_path / "tuning.json").read_text())
    assert [choice["nfe"] for choice in found["choices"]] == [2, 4]
    assert {(row["solver"], row["grid"]) for row in found["tried"]} == {
        (solver, grid) for solver in ("ddim", "straight_adams") for grid in ("karras", "angle")
    }
    assert all(choice["error"] > found["reference_error"] for choice in found["choices"])
    assert f"the reference itself is off by {found['reference_error']:.0e}" in printed
    assert "\N{HORIZONTAL ELLIPSIS}" not in printed  # the table fits into 80 columns
    assert (tmp_path / "tuning.png").stat().st_size > 1000
    command = next(word for word in printed.split() if word.startswith("settings="))
    assert command == f"settings={tmp_path / 'tuned-2.yaml'}"
    moved = OmegaConf.load(tmp_path / "tuned-4.yaml")
    assert len(moved.grid.times) == moved.steps + 1 == 5
    enter("sample", f"run={run}", f"settings={tmp_path / 'tuned-4.yaml'}", "n=2")
    assert len(list((run / "samples").glob("tuned-4-*-n2-seed0/samples.png"))) == 1
    assert " 5 " in capfd.readouterr().out  # evaluations: four, and the last step to clean images


@pytest.mark.long
def test_leaves_the_default_where_nothing_beats_it(run, tmp_path, capfd):
    """There is nothing else to try."""
    alone = ["tuning.solvers=[]", "tuning.grids=[]", "tuning.nfe=[3,3]", "tuning.optimize=[]"]
    enter("benchmark", f"run={run}", *LITTLE, *alone, "n=1", f"out={tmp_path}")
    assert "nothing beats the default at [3] evaluations: it stays" in capfd.readouterr().out
    kept = OmegaConf.load(tmp_path / "tuned-3.yaml")
    assert (kept.solver, kept.grid) == (load("solver", "straight_adams"), load("grid", "angle"))
    found = json.loads((tmp_path / "tuning.json").read_text(), parse_constant=pytest.fail)
    (choice,) = found["choices"]
    assert (choice["gain"], choice["se"]) == (0.0, None)
    assert choice["error"] != found["tried"][0]["median"]  # judged on other noise
    enter("sample", f"run={run}", f"settings={tmp_path / 'tuned-3.yaml'}", "n=1")


def test_a_choice_that_does_not_win_on_other_noise_is_not_taken():
    model = oracles.denoiser(make("sde", "vp"))
    grids = {"uniform": Uniform(), "angle": Angle()}
    worse, better = candidate_settings(model.sde, {"dpm_solver_pp": DPMSolverPP()}, grids, 6)
    judge = Tuner(denoiser=model, shape=(2,), settings=[worse, better], seeds=range(8))
    assert evaluate_selection(judge, 6, worse, better).setting is better
    lucky = better._replace(times=Angle(middle=0.33)(model.sde, 6))
    gains = torch.log(judge.errors(better) / judge.errors(lucky))
    assert 0 < gains.mean() < gains.std() / 8**0.5
    assert evaluate_selection(judge, 6, lucky, better).setting is better
    alone = replace(judge, seeds=list(judge.seeds)[:1])
    assert evaluate_selection(alone, 6, better, worse).setting is worse, "one sample is not significant"
    choice = evaluate_selection(judge, 6, better, worse)
    assert choice.setting is better
    gain, se = choice.gain()
    assert gain > 3 * se > 0
    config = OmegaConf.create(
        {"run": "here", "out": "here", "tuning": {"against": {"solver": "it", "grid": "uniform"}}}
    )
    error = float(choice.errors.median())
    assert not [line for line in notes(config, [choice], 0.01 * error) if "too near" in line]
    assert [line for line in notes(config, [choice], error) if "at [6] evaluations" in line]


def test_mistakes(run, tmp_path, capfd):
    for arguments, words in [
        (["tuning.nfe=[]"], "positive whole numbers"),
        (["tuning.nfe=[0]"], "whole numbers from 1 to"),
        (["tuning.nfe=[true]"], "whole numbers from 1 to"),
        (
            ["tuning.optimize=[5]"],
            "tuning.optimize=[5]: times are moved at numbers in tuning.nfe=[2, 4] only",
        ),
        (["tuning.nfe=[1,4]", "tuning.against.solver=heun"], "tuning.nfe=1 is too few for a step of heun"),
        (["tuning.solvers=[hoin]"], "did you mean"),
        (["tuning.grids=[listed]"], "tuning.grids=[listed]"),
        (["tuning.solvers=[ancestral]"], "stochastic or adaptive"),
    ]:
        assert words in mistake(capfd, "benchmark", f"run={run}", *LITTLE, *arguments, f"out={tmp_path}")
    for text, words in [
        (None, "no settings"),
        ("steps: 3", "holds no solver"),
        ("{solver: {_target_: os.system}, grid: {_target_: sde_gen.grid.Angle}, steps: 3}", "trust"),
    ]:
        path = tmp_path / "tuned.yaml"
        if text is not None:
            path.write_text(text)
        assert words in mistake(capfd, "sample", f"run={run}", f"settings={path}")
