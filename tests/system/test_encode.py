"""Encoding data for trainings of latents: what the shards hold, and trainings that draw latents anew in every step."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sde_gen.data import Digits, Latents
from sde_gen.denoiser import NetworkAutoencoder
from sde_gen.noise import IID
from tests.helpers import commands
from tests.system.test_autoencoders import NETWORK, SHORT, SMALL, opened, train


@pytest.fixture(scope="module")
def encoded(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("encoded")
    run = train(folder / "kl", "objective=autoencoding", *SMALL, "engine.images=64")
    out = folder / "latents"
    commands.enter("encode", f"run={run}", f"out={out}", "flips=true", "shard=1000", "batch_size=500")
    return run, out


def test_shards_hold_the_posteriors_of_images_and_of_mirrored_ones(encoded):
    run, out = encoded
    data, about = Digits().load(), json.loads((out / "header.json").read_text())
    n = len(data.train)
    paths = sorted(out.glob("train-*.safetensors"))
    assert len(paths) == about["shards"]["train"] > 1
    parts = [load_file(path) for path in paths]
    mean, std, label = (torch.cat([part[name] for part in parts]) for name in ("mean", "std", "label"))
    model = opened(run, NetworkAutoencoder)
    for first, values in ((0, data.train.values), (n, data.train.values.flip(-1))):
        posterior = model.denoiser.net.encode(model.codec.encode(values[:50]))
        torch.testing.assert_close(mean[first : first + 50], posterior.mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(std[first : first + 50], posterior.std, rtol=1e-4, atol=1e-5)
        assert torch.equal(label[first : first + n], data.train.labels)
    splits = Latents(root=str(out)).load()
    assert (len(splits.train), len(splits.test)) == (2 * n, len(data.test))
    assert splits.train.shape == (4, 4, 4)


def test_training_draws_latents_anew(encoded, tmp_path):
    run, out = encoded
    words = ("data=latents", f"data.root={out}", "codec=latent", f"codec.run={run}", "model=ddpmpp", *NETWORK)
    made = opened(train(tmp_path / "run", *words, "engine.images=64"))
    assert made.event == (2, 4, 4)
    values = Latents(root=str(out)).load().train.values[:8]
    first, second = (made.codec.encode(values, IID.seeded(seed)) for seed in (0, 1))
    assert float((first - second).abs().min()) > 0
    mean, std = values.chunk(2, 1)
    shift, scale = (torch.tensor(made.config.codec[key]).reshape(1, 2, 1, 1) for key in ("shift", "scale"))
    torch.testing.assert_close(made.codec.encode(values), (mean - shift) / scale)
    eps = (first - made.codec.encode(values)) / (std / scale)
    torch.testing.assert_close(eps, IID.seeded(0).normal(mean), rtol=1e-3, atol=1e-3)
    commands.enter(
        "sample", f"run={tmp_path / 'run'}", "n=2", "steps=2", "threads=1", f"out={tmp_path / 'out'}"
    )
    assert (tmp_path / "out" / "samples.png").is_file()


def test_mistakes(encoded, tmp_path, capfd):
    run, out = encoded
    mistake = commands.mistake
    assert "already" in mistake(capfd, "encode", f"run={run}", f"out={out}")
    assert "have shape (2,)" in mistake(capfd, "encode", f"run={run}", f"out={tmp_path / 'a'}", "data=moons")
    assert not (tmp_path / "a").exists()
    words = ("train", "data=latents", "codec=latent", f"codec.run={run}", *SHORT, f"run={tmp_path / 'no'}")
    assert "sde_gen.encode" in mistake(capfd, *words, f"data.root={tmp_path}")
    about = json.loads((out / "header.json").read_text())
    other = tmp_path / "other"
    other.mkdir()
    for path in out.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    (other / "header.json").write_text(json.dumps({**about, "sha256": "0" * 64}))
    assert "encoded by other weights" in mistake(capfd, *words, f"data.root={other}")
    (other / "test-00000.safetensors").unlink()
    assert "0 shards of the test split" in mistake(capfd, *words, f"data.root={other}")
    (other / "header.json").write_text("{")
    assert "is damaged" in mistake(capfd, *words, f"data.root={other}")
