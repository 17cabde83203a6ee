"""Improved DDPM by command: a training of mean and variance, its samples by respaced chains, and their bounds."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from sde_gen.checkpoint import store as checkpoint
from tests.helpers.commands import TINY, enter, mistake


@pytest.fixture(scope="module")
def run(trained: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = ("objective=hybrid", "step_sampler=second_moment", "model.head_channels=8", "optimizer.lr=1e-3")
    return trained(tmp_path_factory.mktemp("variances") / "run", *words)


def test_the_network_has_twice_the_channels_and_the_losses_are_stored(run: Path) -> None:
    (path,) = checkpoint.paths(run / "checkpoints")[-1:]
    saved = checkpoint.load(path)
    assert saved.ema["out.weight"].shape[0] == 2
    assert int(saved.objective["counts"][()].sum()) == 256
    assert saved.about["config"]["sde"]["betas"]["_target_"].endswith("cosine_betas")
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert 0.5 < records[0]["loss"] < 3  # the error of the noise, and 0.001 times a bound


def test_samples_and_bounds_at_any_number_of_steps_have_the_learned_variance(
    run: Path, tmp_path: Path
) -> None:
    chain = ("solver=ancestral", "grid=ddpm_linspace")
    enter("sample", f"run={run}", "n=2", "steps=9", *chain, "solver.nu=null", f"out={tmp_path / 'samples'}")
    assert np.isfinite(np.load(tmp_path / "samples" / "samples.npz")["model_space"]).all()
    words = ["metrics=[vlb_last_step]", "n=4", "metric.vlb_last_step.nu=null"]
    for steps in (9, 24):
        out = tmp_path / f"bound-{steps}"
        enter("evaluate", f"run={run}", *words, f"metric.vlb_last_step.steps={steps}", f"out={out}")
        rows = [json.loads(line) for line in (out / "vlb_last_step.jsonl").read_text().splitlines()]
        assert all(np.isfinite(row.get("value", 0)) for row in rows)


def test_the_training_is_resumed(run: Path) -> None:
    enter("train", f"run={run}", "engine.images=320")
    saved = checkpoint.load(checkpoint.paths(run / "checkpoints")[-1])
    assert saved.images == 320
    assert int(saved.objective["counts"][()].sum()) == 320
    assert torch.isfinite(saved.objective["losses"][()]).all()


def test_mistakes_are_named(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said = mistake(capfd, "train", *TINY, "objective=vlb", "model=ncsnpp", f"run={tmp_path / 'one'}")
    assert "one output channel" in said
    assert "adm" in said
    said = mistake(capfd, "train", *TINY, "objective=vlb", "weighting=min_snr", f"run={tmp_path / 'two'}")
    assert "weighting" in said
    said = mistake(capfd, "train", *TINY, "step_sampler=second_moment", f"run={tmp_path / 'three'}")
    assert "step_sampler" in said
