"""Tuning a solver for a run, and sampling by what was found."""

import json

import pytest
from omegaconf import OmegaConf

from tests.system.test_doors import TINY, enter, mistake

LITTLE = [
    "tune=true",
    "n=3",
    "tuning.nfe=[2,4]",
    "tuning.optimise=[4]",
    "tuning.solvers=[ddim]",
    "tuning.grids=[karras]",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuning") / "digits"
    enter("train", *TINY, f"run={folder}")
    return folder


def test_leaves_settings_that_the_sampler_takes(run, tmp_path, capfd):
    enter("benchmark", f"run={run}", *LITTLE, f"out={tmp_path}")
    told = capfd.readouterr().out
    found = json.loads((tmp_path / "tuning.json").read_text())
    assert [choice["nfe"] for choice in found["choices"]] == [2, 4]
    assert {(row["solver"], row["grid"]) for row in found["tried"]} == {
        (solver, grid) for solver in ("ddim", "straight_adams") for grid in ("karras", "angle")
    }
    assert all(choice["error"] > found["reference_error"] for choice in found["choices"])
    assert (tmp_path / "tuning.png").stat().st_size > 1000
    command = next(word for word in told.split() if word.startswith("settings="))
    assert command == f"settings={tmp_path / 'tuned-2.yaml'}"
    moved = OmegaConf.load(tmp_path / "tuned-4.yaml")
    assert len(moved.grid.log_snrs) == moved.steps + 1 == 5
    enter("sample", f"run={run}", f"settings={tmp_path / 'tuned-4.yaml'}", "n=2")
    assert len(list((run / "samples").glob("tuned-4-*-n2-seed0/samples.png"))) == 1
    assert " 5 " in capfd.readouterr().out  # evaluations: four, and the last step to clean images


def test_mistakes(run, tmp_path, capfd):
    for arguments, words in [
        (["tuning.nfe=[]"], "positive whole numbers"),
        (["tuning.nfe=[0]"], "positive whole numbers"),
        (["tuning.solvers=[hoin]"], "did you mean"),
        (["tuning.solvers=[ancestral]"], "draws noise"),
    ]:
        assert words in mistake(capfd, "benchmark", f"run={run}", *LITTLE, *arguments, f"out={tmp_path}")
    for text, words in [
        (None, "no settings"),
        ("steps: 3", "holds no solver"),
        ("{solver: {_target_: os.system}, grid: {}, steps: 3}", "trust"),
    ]:
        path = tmp_path / "tuned.yaml"
        if text is not None:
            path.write_text(text)
        assert words in mistake(capfd, "sample", f"run={run}", f"settings={path}")
