"""Denoising diffusion GANs by the command line: training, exact resuming, sampling in few steps, mistakes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import sde_gen as sg
from sde_gen.grid import Uniform
from sde_gen.sampler import Sampler
from sde_gen.solver import GANAncestral
from tests.helpers import commands

GAN = ["objective=diffusion_gan", "data=ring", "data.count=256", "data.test_count=64", "codec=affine"]
SMALL = ["model=mlp", "model.width=16", "model.depth=1", "model@objective.discriminator=vector_encoder"]
SHORT = [
    *("objective.discriminator.width=16", "objective.discriminator.depth=1", "objective.latent=3"),
    *("engine.log_every=64", "engine.checkpoint_every=128", "engine.preview_every=256", "engine.validate=16"),
    *("preview.n=4", "threads=1", "lr_schedule=constant", "lr_schedule.warmup=64", "optimizer.beta1=0.5"),
]
FILES = ("net.safetensors", "ema.safetensors", "optimizer.safetensors")


def train(folder: Path, *words: str) -> Path:
    commands.enter("train", *GAN, *SMALL, *SHORT, *words, f"run={folder}")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return train(tmp_path_factory.mktemp("runs") / "gan", "engine.images=256")


@pytest.mark.long
def test_resumed_training_ends_in_the_same_weights(run, tmp_path):
    other = train(tmp_path / "other", "engine.images=128")
    train(other, "engine.images=256")
    last = f"{256:012d}"
    for name in FILES:
        paths = [folder / "checkpoints" / last / name for folder in (run, other)]
        assert paths[0].read_bytes() == paths[1].read_bytes(), name


@pytest.mark.long
def test_samples_by_default_with_the_steps_of_its_training(run):
    assert (run / "previews" / f"{256:012d}.png").exists()
    commands.enter("sample", f"run={run}", "n=6", "seed=3", "threads=1", "device=cpu")
    (folder,) = (run / "samples").iterdir()
    assert folder.name.startswith("ganancestral-uniform-4-")
    loaded = sg.load(run, device="cpu")
    assert loaded.sampler == Sampler(solver=GANAncestral(), grid=Uniform(), steps=4)
    x = loaded.sample(6, seed=3)
    with np.load(folder / "samples.npz") as file:
        np.testing.assert_allclose(
            file["samples"] if "samples" in file else file[file.files[0]], x, rtol=1e-5
        )
    for steps in (1, 2):
        few = Sampler(solver=GANAncestral(), grid=Uniform(), steps=steps)
        assert not torch.allclose(loaded.sample(6, seed=3, sampler=few), x)


@pytest.mark.long
def test_metrics_of_samples_are_of_the_sampler_of_its_training(tmp_path):
    small = ["objective.discriminator.width=8", "objective.discriminator.blocks=1", "engine.images=64"]
    commands.enter("train", "objective=diffusion_gan", *commands.TINY, *small, "threads=1", f"run={tmp_path}")
    commands.enter("evaluate", f"run={tmp_path}", "metrics=[energy_distance]", "n=64", "threads=1")
    (report,) = (tmp_path / "evaluation").glob("energy_distance-*.json")
    assert "sde_gen.solver.GANAncestral" in report.read_text()


@pytest.mark.long
def test_says_what_does_not_apply(run, tmp_path, capsys):
    loaded = sg.load(run, device="cpu")
    with pytest.raises(ValueError, match="it has no likelihood"):
        loaded.log_prob(torch.zeros(1, 2))
    for command, words, said in [
        ("evaluate", [f"run={run}", "metrics=[bpd]", "n=2"], "no likelihood"),
        ("train", ["data=digits", *GAN[:1], SMALL[3], f"run={tmp_path / 'b'}"], "takes vectors"),
        (
            "train",
            ["data=digits", *GAN[:1], "conditioning=label", f"run={tmp_path / 'b'}"],
            "without conditions",
        ),
    ]:
        with pytest.raises(SystemExit):
            commands.enter(command, *words, "threads=1", "device=cpu")
        assert said in " ".join(capsys.readouterr().err.split()), words
    assert json.loads((run / "log.jsonl").read_text().splitlines()[-1])["loss"] > 0
