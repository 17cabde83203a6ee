"""Output files of the commands: numbers first, whole or not at all, and nothing of killed processes."""

import html
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sde_gen.cli import benchmark, reports, sample_output
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


@pytest.mark.long
def test_vectors_have_a_picture_a_strip_and_a_film(run: Path, tmp_path: Path) -> None:
    enter("sample", f"run={run}", "n=5", "steps=3", "trajectory_frames=2", "gif=true", f"out={tmp_path}")
    assert sorted(os.listdir(tmp_path)) == [
        "report.html",
        "samples.json",
        "samples.npz",
        "samples.png",
        "trajectory.gif",
        "trajectory.png",
    ]
    with Image.open(tmp_path / "trajectory.png") as strip, Image.open(tmp_path / "trajectory.gif") as film:
        assert strip.size == (1000, 1000), "two moments; states and predictions"
        assert film.n_frames >= 4, "the start and every step"


def test_numbers_outlive_their_pictures(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("save_samples", "save_gif", "save_panels"):
        monkeypatch.setattr(sample_output, name, fail)
    with pytest.warns(UserWarning, match="was not made") as caught:
        enter("sample", f"run={run}", "n=5", "steps=3", "trajectory_frames=2", "gif=true", f"out={tmp_path}")
    assert [Path(str(note.message).split()[2]).name for note in caught] == [
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
    assert f"File too large: '{tmp_path}/samples.npz'" in answer, (
        "the file asked for, not the part that was written"
    )
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.filterwarnings("ignore:the checkpoint in")
def test_a_full_disk_leaves_the_configuration(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = (run / "config.yaml").read_bytes()
    with small_disk(1500):
        answer = mistake(capfd, "train", *POINTS, "engine.images=512", f"run={run}")
    assert f"File too large: '{run}/config.yaml'" in answer
    assert (run / "config.yaml").read_bytes() == before
    assert not list(run.glob(".*.new"))


def test_every_command_leaves_a_report(run: Path, tmp_path: Path) -> None:
    before = (run / "report.html").read_bytes()
    enter("sample", f"run={run}", "n=5", "steps=3", "label=null", f"out={tmp_path}")
    assert (run / "report.html").read_bytes() == before, "samples elsewhere leave the run as it is"
    about = json.loads((tmp_path / "samples.json").read_text())
    assert (about["n"], about["nfe"], about["trained_on_images"]) == (5, 4, 256)
    words = f"n=5 steps=3 label=null out={tmp_path}"
    assert about["command"] == f"python -m sde_gen.sample run={run} {words}"
    assert about["settings"]["sampler"]["steps"] == 3
    assert "method" not in about["settings"], "no task has used it"
    assert about["command"] in html.unescape((tmp_path / "report.html").read_text())
    enter("benchmark", f"run={run}", "solvers=[ddim]", "steps=[2]", "n=2", "reference.steps=8")
    page = html.unescape((run / "report.html").read_text())
    assert f"run={run}" in page, "the command of the training"
    assert all(text in page for text in ("after 256 images", "Error of solvers by NFE", "ddim", "beta_max"))


def test_numbers_outlive_their_report(
    run: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("write_samples", "write_run"):
        monkeypatch.setattr(reports, name, fail)
    out = run / "samples" / "late"
    before = (run / "report.html").read_bytes()
    with pytest.warns(UserWarning, match="the report .* was not made") as caught:
        enter("sample", f"run={run}", "n=5", "steps=3", f"out={out}")
    assert len(caught) == 2
    assert "the file of that name is an older one" in str(caught[1].message)
    assert sorted(os.listdir(out)) == ["samples.json", "samples.npz", "samples.png"]
    assert (run / "report.html").read_bytes() == before
    assert "report" not in capfd.readouterr().out


def test_a_training_renews_its_report_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, made = [0.0], []
    monkeypatch.setattr(reports.time, "monotonic", lambda: now[0])

    def make(folder: Path) -> None:
        made.append(now[0])
        now[0] += 2.0  # seconds that it takes

    monkeypatch.setattr(reports, "refresh", make)
    callback = reports.WhileTraining(tmp_path)
    while now[0] < 1000:
        callback.on_log({})
        now[0] += 1
    assert made == [60, 462, 864], "after a minute, and then so rarely that it takes 0.5 % of the time"


def test_loggers_by_name(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = [*POINTS, f"run={tmp_path / 'run'}"]
    assert "logger 'csvv' is unknown; did you mean csv?" in mistake(capfd, "train", *words, "loggers=[csvv]")
    assert not (tmp_path / "run").exists()
    table = tmp_path / "a.csv"
    enter("train", *words, "loggers=[csv,tensorboard]", f"logging.csv.path={table}")
    assert [line.split(",")[0] for line in table.read_text().splitlines()] == [
        "images",
        "64",
        "128",
        "192",
        "256",
    ]
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    with pytest.warns(UserWarning, match="was written with other settings") as caught:
        enter("train", f"run={tmp_path / 'run'}", "engine.images=320", "loggers=[csv]")
    assert not any(word in str(note.message) for note in caught for word in ("command", "logging"))
    assert (tmp_path / "run" / "log.csv").read_text().count("\n") == 2


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
    (left,) = (run / "samples").glob("*/.samples.npz.*.new")  # it was killed
    enter("sample", f"run={run}", "n=2", "steps=3")
    assert not left.exists()
    (folder,) = (path for path in (run / "samples").iterdir() if path != left.parent)
    assert sorted(os.listdir(folder)) == ["report.html", "samples.json", "samples.npz", "samples.png"]
