"""Flow maps and consistency models through the commands: train, resume, sample in one and two evaluations."""

import json

import numpy as np
import pytest

import sde_gen as sg
from sde_gen.checkpoint import store as checkpoint
from tests.helpers.commands import TINY, enter, mistake

POINTS = [
    "data=moons",
    "data.count=100",
    "codec=affine",
    "model=mlp",
    "model.width=16",
    "lr_schedule=constant",
    "lr_schedule.warmup=0",
    "threads=1",
    *TINY[3:],
]
JUMP = ["solver=jump", "n=3", "threads=1"]


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A denoiser of points."""
    run = tmp_path_factory.mktemp("start") / "points"
    enter("train", *POINTS, f"run={run}", "engine.images=64")
    return run


def samples(run, out, *words):
    enter("sample", f"run={run}", f"out={out}", *JUMP, *words)
    return np.load(out / "samples.npz")["data"], json.loads((out / "samples.json").read_text())


@pytest.mark.parametrize("objective", ["mean_flow", "lagrangian"])
def test_a_flow_map_is_trained_from_a_run_resumed_and_sampled(start, tmp_path, capfd, objective):
    run = tmp_path / "map"
    words = [*POINTS, f"run={run}", f"init={start}", f"objective={objective}"]
    enter("train", *words, "engine.images=64")
    assert "new                            │ 1: until.weight" in capfd.readouterr().out
    enter("train", *words, "engine.images=128")
    saved = checkpoint.latest(run / "checkpoints")
    assert saved.images == 128
    assert bool(saved.net["until.weight"][()].any())
    one, about = samples(run, tmp_path / "one", "steps=1")
    two, _ = samples(run, tmp_path / "two", "steps=2")
    assert one.shape == two.shape == (3, 2)
    assert np.isfinite(one).all()
    assert np.isfinite(two).all()
    assert not np.array_equal(one, two)
    assert about["nfe"] == 1
    enter("sample", f"run={run}", "steps=2", "n=3", "threads=1", f"out={tmp_path / 'denoiser'}")
    assert sg.load(run).run.denoiser.net.until is not None


def test_a_consistency_model_is_tuned_from_a_run_and_says_what_it_is(start, tmp_path, capfd):
    run = tmp_path / "consistency"
    words = [
        *POINTS,
        f"run={run}",
        f"init={start}",
        "objective=consistency",
        "solver@preview.sampler.solver=jump",
    ]
    enter("train", *words, "preview.sampler.solver.renoise=1", "engine.images=64")
    two, about = samples(run, tmp_path / "two", "solver.renoise=1", "steps=2")
    assert np.isfinite(two).all()
    assert about["nfe"] == 2
    assert "solver=jump solver.renoise=1" in mistake(capfd, "sample", f"run={run}", "n=2", "threads=1")
    assert "maps to t_min" in mistake(capfd, "sample", f"run={run}", *JUMP, "steps=2")
    assert "does not export" in mistake(
        capfd, "convert", f"run={run}", "to=diffusers", f"out={tmp_path / 'exported'}"
    )
    assert "is no flow map" in mistake(capfd, "sample", f"run={start}", *JUMP)


@pytest.mark.long
@pytest.mark.parametrize("objective", ["mean_flow", "lagrangian"])
def test_networks_of_images_train_in_the_memory_order_of_forward_derivatives(tmp_path, capfd, objective):
    """Whichever of the orders is faster: PyTorch's derivative of a group normalization takes one of them."""
    words = [*TINY, f"objective={objective}", f"run={tmp_path}", "engine.images=64"]
    enter("train", *words)
    assert "images channels first" in " ".join(capfd.readouterr().out.split())
    said = mistake(capfd, "train", *words, "engine.images=128", "engine.channels_last=true")
    assert "which PyTorch has with channels first alone" in said
