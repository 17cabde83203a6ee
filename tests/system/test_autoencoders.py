"""Autoencoders and models of their latents by the command line: training, pictures, bounds, samples, mistakes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from sde_gen.cli.run import load_run
from sde_gen.data import Digits
from sde_gen.denoiser import NetworkAutoencoder
from tests.helpers import commands

SHORT = [
    "engine.images=256",
    "engine.log_every=64",
    "engine.checkpoint_every=256",
    "engine.preview_every=256",
    "engine.validate=16",
    "preview.n=4",
    "threads=1",
    "lr_schedule.warmup=64",
    "optimizer.lr=1e-2",
]
SMALL = ["model.channels=[8,8]", "model.latent_channels=2", "model.middle_attention=false"]
NETWORK = ["model.width=8", "model.blocks=1", "model.attention_levels=[]", "preview.sampler.steps=2"]


def train(folder: Path, *words: str) -> Path:
    commands.enter("train", *words, *SHORT, f"run={folder}")
    return folder


def opened(folder: Path, trains: type | None = None):
    config = OmegaConf.create({"run": str(folder), "checkpoint": None, "trust": [], "device": "cpu"})
    return load_run(config) if trains is None else load_run(config, trains)


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory) -> Path:
    return train(tmp_path_factory.mktemp("runs") / "kl", "objective=autoencoding", *SMALL)


@pytest.fixture(scope="module")
def latent(autoencoder) -> Path:
    words = ("codec=latent", f"codec.run={autoencoder}", "model=ddpmpp", *NETWORK)
    return train(autoencoder.parent / "latent", *words)


def test_autoencoder_learns_and_shows_reconstructions(autoencoder):
    records = [json.loads(line) for line in (autoencoder / "log.jsonl").read_text().splitlines()]
    assert records[-1]["loss"] < 0.8 * records[0]["loss"]
    with Image.open(autoencoder / "previews" / f"{256:012d}.png") as picture:
        assert picture.height < picture.width  # four images above four reconstructions


@pytest.mark.long
@pytest.mark.parametrize("model", ["vq_autoencoder", "discrete_autoencoder"])
def test_other_autoencoders_train_and_are_evaluated(model, tmp_path):
    words = ("objective=autoencoding", f"model={model}", *SMALL[::2], "model.codes=8", "engine.images=64")
    run = train(tmp_path / model, *words)
    commands.enter("evaluate", f"run={run}", "metrics=[autoencoder_bound]", "n=8", "threads=1")
    found = json.loads((run / "evaluation" / "autoencoder_bound.json").read_text())
    assert 0 < found["mean"] < 100


@pytest.mark.long
def test_bound_of_the_autoencoder_is_that_of_its_objective(autoencoder):
    """The evaluation against the loss of the network, both means over many draws; six standard errors."""
    commands.enter("evaluate", f"run={autoencoder}", "metrics=[autoencoder_bound]", "n=16", "threads=1")
    found = json.loads((autoencoder / "evaluation" / "autoencoder_bound.json").read_text())
    run, test = opened(autoencoder, NetworkAutoencoder), Digits().load().test
    net, x = run.denoiser.net, run.codec.encode(test.values[found["image"]])
    low, high = run.codec.bins(x)
    generator, draws = torch.Generator().manual_seed(0), []
    for _ in range(200):
        mean, log_scale, rate, _ = net(x, torch.randn(16, *net.noise, generator=generator))
        base = torch.distributions.Uniform(0, 1)
        logistic = torch.distributions.TransformedDistribution(
            base,
            [
                torch.distributions.SigmoidTransform().inv,
                torch.distributions.AffineTransform(mean.double(), log_scale.double().exp()),
            ],
            validate_args=False,
        )
        mass = logistic.cdf(high) - logistic.cdf(low)
        draws.append((rate - mass.log().flatten(1).sum(1)) / 64 / np.log(2))
    expected, spread = torch.stack(draws).mean(0), torch.stack(draws).std(0) / 2**0.5
    error = (spread.square().mean() / 16).sqrt()
    assert abs(found["mean"] - float(expected.mean())) < 6 * float(error)
    assert found["spread"]["latents"] == pytest.approx(float(error), rel=1.0)


def test_model_of_latents_is_distinguished_from_its_data(latent, autoencoder):
    run = opened(latent)
    assert run.data_spec.shape == (1, 8, 8)
    assert run.event == (2, 4, 4)
    codec = run.config.codec
    assert codec.run == str(autoencoder)
    assert len(codec.sha256) == 64
    z = run.codec.encode(Digits().load().train.values)  # means, whose variance is at most that of draws
    assert float(z.mean((0, 2, 3)).abs().max()) < 0.1
    assert 0.05 < float(z.std((0, 2, 3)).max()) < 1.1
    weights = [path for path in (latent / "checkpoints").rglob("*.safetensors") if "codec" in path.name]
    assert not weights


def test_samples_and_previews_are_images(latent):
    commands.enter("sample", f"run={latent}", "n=3", "steps=2", "threads=1", f"out={latent / 'out'}")
    with np.load(latent / "out" / "samples.npz") as file:
        assert file["model_space"].shape == (3, 2, 4, 4)
        assert file["data"].shape == (3, 1, 8, 8)
        assert 0 <= file["data"].min() <= file["data"].max() <= 16
    assert (latent / "out" / "samples.png").is_file()
    assert (latent / "previews" / f"{256:012d}.png").is_file()


@pytest.mark.long
def test_bound_of_latents_is_reported_with_its_error_budget(latent):
    words = ("metrics=[latent_bound]", "integrator=runge_kutta", "integrator.steps=2", "n=2", "threads=1")
    commands.enter("evaluate", f"run={latent}", *words, "metric.latent_bound.diagnose_every=1")
    found = json.loads((latent / "evaluation" / "latent_bound.json").read_text())
    assert found["spread"].keys() == {"latents", "probes"}
    assert found["offset"].keys() == {"ODE"}
    assert 0 < found["standard_error"] < found["mean"] < 50


def test_training_of_latents_resumes(latent, tmp_path):
    shutil.copytree(latent, tmp_path / "latent")
    commands.enter("train", f"run={tmp_path / 'latent'}", "engine.images=320")
    assert opened(tmp_path / "latent").images == 320


@pytest.mark.long
def test_mistakes_with_latents(latent, autoencoder, tmp_path, capfd):
    def train_mistake(*words: str) -> str:
        return commands.mistake(capfd, "train", *words, *SHORT, f"run={tmp_path / 'no'}")

    given = ("codec=latent", f"codec.run={autoencoder}")
    assert "codec.run must name" in train_mistake("codec=latent")
    assert "there is no run folder" in train_mistake("codec=latent", f"codec.run={tmp_path / 'none'}")
    assert "holds a score network" in train_mistake("codec=latent", f"codec.run={latent}")
    assert "for data of shape (1, 8, 8)" in train_mistake(*given, "data=moons", "model=mlp")
    assert "do not halve" in train_mistake(*given, "model=ddpmpp", "model.multipliers=[1,1,1,1]")
    assert "autoencoder of latents" in train_mistake(*given, "objective=autoencoding", *SMALL)
    assert "without conditions" in train_mistake("objective=autoencoding", "conditioning=label")
    assert "draws no samples" in train_mistake("objective=autoencoding", "preview.sampler.steps=3")
    assert "adds no noise" in train_mistake("objective=autoencoding", "sde=ve")
    words = ("evaluate", f"run={latent}", "n=4")
    assert "metrics=[latent_bound]" in commands.mistake(capfd, *words, "metrics=[bpd]")
    assert "measure different models" in commands.mistake(
        capfd, *words, "metrics=[latent_bound,autoencoder_bound]"
    )
    assert "metrics=[autoencoder_bound]" in commands.mistake(capfd, "evaluate", f"run={autoencoder}", "n=4")
    assert "cannot sample" in commands.mistake(capfd, "sample", f"run={autoencoder}")


def test_a_moved_or_changed_autoencoder_is_refused_by_name(latent, autoencoder, tmp_path, capfd):
    moved = autoencoder.parent / "moved"
    autoencoder.rename(moved)
    try:
        assert f"there is no run folder {autoencoder}" in commands.mistake(capfd, "sample", f"run={latent}")
        train(autoencoder, "objective=autoencoding", *SMALL, "engine.seed=1", "engine.images=64")
        assert "have changed" in commands.mistake(capfd, "sample", f"run={latent}")
    finally:
        shutil.rmtree(autoencoder, ignore_errors=True)
        moved.rename(autoencoder)
    opened(latent)


def test_an_imported_autoencoder_keeps_its_shift_and_scale(tmp_path):
    folder = tmp_path / "vae"
    folder.mkdir()
    data = Path(__file__).parents[1] / "data"
    shutil.copy(data / "autoencoder_kl.safetensors", folder / "diffusion_pytorch_model.safetensors")
    from tests.unit.interop.test_diffusers_autoencoders import KL

    (folder / "config.json").write_text(json.dumps({**KL, "scaling_factor": 0.5, "shift_factor": 0.1}))
    commands.enter("convert", "from=diffusers", f"file={folder}", f"out={tmp_path / 'run'}")
    net = opened(tmp_path / "run", NetworkAutoencoder).denoiser.net
    assert (net.latent_shift, net.latent_scale) == ([0.1] * 4, [2.0] * 4)
