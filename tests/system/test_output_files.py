"""Output files of the commands: numbers first, whole or not at all, and nothing of killed processes."""

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sde_gen.cli import benchmark, sample
from sde_gen.cli.generation import SampleGeneration
from sde_gen.evaluation import solver_comparison
from tests.helpers.commands import TINY, enter, mistake
from tests.helpers.subprocesses import children
from tests.unit.utils.test_atomic import small_disk

POINTS = ["data=moons", "data.count=100", "codec=affine", "model=mlp", "model.width=16", *TINY[3:]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written") / "moons"
    enter("train", *POINTS, f"run={folder}")
    return folder


def fail(*_: object, **__: object) -> None:
    raise RuntimeError("no picture today")


def test_vectors_have_a_picture_a_strip_and_a_film(run: Path, tmp_path: Path) -> None:
    enter("sample", f"run={run}", "n=5", "steps=3", "trajectory_frames=2", "gif=true", f"out={tmp_path}")
    assert sorted(os.listdir(tmp_path)) == ["samples.npz", "samples.png", "trajectory.gif", "trajectory.png"]
    with Image.open(tmp_path / "trajectory.png") as strip, Image.open(tmp_path / "trajectory.gif") as film:
        assert strip.size == (1000, 1000), "two moments; states and predictions"
        assert film.n_frames >= 4, "the start and every step"


def test_numbers_outlive_their_pictures(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("save_samples", "save_gif", "save_panels"):
        monkeypatch.setattr(sample, name, fail)
    with pytest.warns(UserWarning, match="was not made") as told:
        enter("sample", f"run={run}", "n=5", "steps=3", "trajectory_frames=2", "gif=true", f"out={tmp_path}")
    assert [Path(str(note.message).split()[2]).name for note in told] == [
        "samples.png",
        "trajectory.gif",
        "trajectory.png",
    ]
    assert np.load(tmp_path / "samples.npz")["data"].shape == (5, 2)
    said = capfd.readouterr().out
    assert "samples.npz" in said.replace("\n", "")
    assert "film" not in said


def test_a_benchmark_outlives_its_plot_and_what_fails_later(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    words = [f"run={run}", "solvers=[ddim,heun]", "steps=[2]", "n=2", "reference.steps=8", f"out={tmp_path}"]
    with monkeypatch.context() as patch:
        patch.setattr(benchmark, "save_figure", fail)
        with pytest.warns(UserWarning, match=r"benchmark\.png was not made"):
            enter("benchmark", *words)
    assert len(json.loads((tmp_path / "benchmark.json").read_text())["rows"]) == 2
    assert "plot" not in capfd.readouterr().out
    solve = solver_comparison.Comparison.solve

    def explode(self: Any, solver: Any, times: Any) -> Any:
        if type(solver).__name__ == "Heun":
            raise FloatingPointError("not finite")
        return solve(self, solver, times)

    monkeypatch.setattr(solver_comparison.Comparison, "solve", explode)
    assert "not finite" in mistake(capfd, "benchmark", *words)
    (row,) = json.loads((tmp_path / "benchmark.json").read_text())["rows"]
    assert row["solver"] == "ddim"


def test_a_full_disk_leaves_earlier_samples(
    run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = [f"run={run}", "steps=2", f"out={tmp_path}"]
    enter("sample", *words, "n=3")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with small_disk(8000):
        answer = mistake(capfd, "sample", *words, "n=2000", "batch_size=250")
    assert f"File too large: '{tmp_path}/samples.npz'" in answer
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    with small_disk(8000):
        answer = mistake(capfd, "sample", *words, "n=2000", "batch_size=2000")
    assert "File too large" in answer
    assert ".safetensors'" in answer
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.filterwarnings("ignore:the checkpoint in")
def test_a_full_disk_leaves_the_configuration(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = (run / "config.yaml").read_bytes()
    with small_disk(1500):
        answer = mistake(capfd, "train", *POINTS, "engine.images=512", f"run={run}")
    assert f"File too large: '{run}/config.yaml'" in answer
    assert (run / "config.yaml").read_bytes() == before
    assert not list(run.glob(".*.new"))


def _hang(folder: Path, started: Path) -> None:
    def draw(*_: object) -> None:
        started.touch()
        time.sleep(100)

    SampleGeneration._batch = draw  # type: ignore[method-assign, assignment]
    enter("sample", f"run={folder}", "n=2", "steps=2")


@pytest.mark.slow
def test_what_a_killed_sample_left_is_cleared_by_the_next(run: Path, tmp_path: Path) -> None:
    with children() as begin:
        child = begin(_hang, run, tmp_path / "started")
        while not (tmp_path / "started").exists():
            assert child.process.exitcode is None, child.text()
            time.sleep(0.01)
    (left,) = (run / "samples").glob("*/.parts.*.new")  # it was killed
    enter("sample", f"run={run}", "n=2", "steps=3")
    assert not left.exists()
    (folder,) = (path for path in (run / "samples").iterdir() if path != left.parent)
    assert sorted(os.listdir(folder)) == ["samples.npz", "samples.png"]
