"""The command soup: a run like any other, its rows and shares on record, and mistakes named."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sde_gen.checkpoint import store as checkpoint
from sde_gen.cli.data_spec import DataSpec
from tests.helpers import stored_run
from tests.helpers.commands import enter, mistake

DIGITS = DataSpec(shape=(1, 8, 8), levels=17, classes=10)
QUICK = ["n=8", "batch_size=3"]


def made(folder: Path, *words: str, seed: int = 0, spread: float = 0.02) -> Path:
    config = stored_run.config_of(*stored_run.SMALL, *words)
    stored_run.write(folder, config, DIGITS, seed=seed, spread=spread)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    base = tmp_path_factory.mktemp("soups")
    return [made(base / f"run-{seed}", seed=seed) for seed in range(2)]


def samples(run: Path, out: Path) -> np.ndarray:
    enter("sample", f"run={run}", "n=2", "steps=2", f"out={out}")
    return np.load(out / "samples.npz")["model_space"]


def test_the_average_of_a_run_with_itself_samples_and_resumes_like_it(
    runs: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "soup"
    enter("soup", f"runs=[{runs[0]},{runs[0]}]", "rule=uniform", f"out={out}", *QUICK)
    assert np.array_equal(samples(out, tmp_path / "a"), samples(runs[0], tmp_path / "b"))
    enter(
        "train",
        f"run={out}",
        "engine.images=128",
        "engine.batch_size=64",
        "engine.preview_every=1000000",
        "engine.validate=8",
    )
    assert [path.name for path in checkpoint.paths(out / "checkpoints")][-1] == f"{128:012d}"


def test_the_greedy_average_records_rows_losses_and_shares(
    runs: list[Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    enter("soup", f"runs=[{runs[0]},{runs[1]}/checkpoints/{64:012d}]", f"out={tmp_path / 'soup'}", *QUICK)
    (path,) = checkpoint.paths(tmp_path / "soup" / "checkpoints")
    record = checkpoint.load(path).about["soup"]
    assert record["rows"] == {"split": "train", "n": 8, "seed": 0}
    best = min(each["loss"]["mean"] for each in record["runs"])
    assert record["loss"]["mean"] <= best
    assert sum(each["share"] for each in record["runs"]) == pytest.approx(1)
    assert [each["sha256"] for each in record["runs"]] == [stored_run.opened(run).sha256 for run in runs]
    assert "training split" in capfd.readouterr().out
    assert json.dumps(record)


def test_classifiers_are_averaged_by_their_cross_entropy(tmp_path: Path) -> None:
    words = ("objective=cross_entropy",)
    config = [word for word in stored_run.SMALL if "attention" not in word]
    folders = []
    for seed in range(2):
        stored = stored_run.config_of(*config, *words)
        stored_run.write(tmp_path / str(seed), stored, DIGITS, seed=seed, spread=0.1)
        folders.append(tmp_path / str(seed))
    enter("soup", f"runs=[{folders[0]},{folders[1]}]", "rule=uniform", f"out={tmp_path / 'soup'}", *QUICK)
    states = [checkpoint.latest(folder / "checkpoints") for folder in (*folders, tmp_path / "soup")]
    a, b, mean = ({name: part[()] for name, part in state.ema.items()} for state in states if state)
    assert all(
        torch.equal(mean[name], ((a[name].double() + b[name].double()) / 2).to(a[name].dtype)) for name in a
    )


@pytest.mark.long
def test_pretrained_models_are_averaged(tmp_path: Path) -> None:
    enter("soup", "runs=[pretrained/digits-vp,pretrained/digits-vp]", "n=8", f"out={tmp_path / 'soup'}")
    assert (tmp_path / "soup" / "checkpoints").is_dir()


def test_runs_of_other_networks_are_refused(
    runs: list[Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = f"out={tmp_path / 'out'}"
    wide = made(tmp_path / "wide", "model.width=16")
    other = made(tmp_path / "other", "sde=sub_vp")
    assert "model.width: 8 -> 16" in mistake(capfd, "soup", f"runs=[{runs[0]},{wide}]", out, *QUICK)
    assert "sde" in mistake(capfd, "soup", f"runs=[{runs[0]},{other}]", out, *QUICK)
    assert "at least two" in mistake(capfd, "soup", f"runs=[{runs[0]}]", out, *QUICK)
    assert "uniform or greedy" in mistake(
        capfd, "soup", f"runs=[{runs[0]},{runs[1]}]", "rule=best", out, *QUICK
    )
    assert "no run folder" in mistake(capfd, "soup", f"runs=[{runs[0]},nowhere]", out, *QUICK)
    assert not (tmp_path / "out").exists()
    assert "already exists" in mistake(capfd, "soup", f"runs=[{runs[0]},{runs[1]}]", f"out={runs[0]}", *QUICK)
