"""A discrete autoencoder and a model of its codes by the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sde_gen.cli.run import SAMPLED, load_run
from tests.helpers import commands
from tests.system.test_autoencoders import SHORT, train

pytestmark = pytest.mark.long

AUTOENCODER = ["model.channels=[8,8]", "model.middle_attention=false", "model.codes=6"]
NETWORK = ["model.width=16", "model.depth=1", "model.heads=2"]


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "discrete"
    words = (
        "data=digit_grids",
        "data.count=300",
        "data.test_count=40",
        "engine.images=64",
        "engine.preview_every=0",
    )
    return train(folder, "objective=autoencoding", "model=discrete_autoencoder", *AUTOENCODER, *words)


@pytest.fixture(scope="module")
def codes(autoencoder) -> Path:
    words = (
        "objective=token_cross_entropy",
        "codec=codes",
        f"codec.run={autoencoder}",
        "model=token_transformer",
    )
    data = ("data=digit_grids", "data.count=300", "data.test_count=40", "conditioning=text")
    return train(autoencoder.parent / "codes", *words, *data, *NETWORK)


def opened(folder: Path):
    from omegaconf import OmegaConf

    given = {"run": str(folder), "checkpoint": None, "trust": [], "device": "cpu"}
    return load_run(OmegaConf.create(given), *SAMPLED)


def drawn(run: Path, name: str, *words: str) -> np.ndarray:
    commands.enter("sample", f"run={run}", "threads=1", f"out={run / name}", *words)
    with np.load(run / name / "samples.npz") as file:
        assert file["data"].shape[1:] == (1, 16, 16)
        return file["model_space"]


def test_loss_falls_from_that_of_uniform_codes(codes):
    records = [json.loads(line) for line in (codes / "log.jsonl").read_text().splitlines()]
    assert records[-1]["loss"] < min(records[0]["loss"], np.log(6))
    run = opened(codes)
    assert run.config.model.codes == 6
    assert run.event == (1, 8, 8)
    assert (codes / "previews" / f"{256:012d}.png").is_file()


def test_samples_of_texts_by_temperature_and_top_k(codes):
    plain = drawn(codes, "plain", "n=3", 'text="one top left"')
    assert plain.shape == (3, 1, 8, 8)
    assert plain.dtype == np.int64
    assert 0 <= plain.min() <= plain.max() < 6
    again = drawn(codes, "again", "n=3", 'text="one top left"', "batch_size=2", "top_k=6", "temperature=1")
    assert (plain == again).all()
    cold = drawn(codes, "cold", "n=3", "temperature=0")
    assert (cold == cold[:1]).all()
    assert not (plain == plain[:1]).all()
    about = json.loads((codes / "plain" / "samples.json").read_text())
    assert about["nfe"] == 64
    assert (codes / "plain" / "samples.png").is_file()


def test_completion_keeps_the_upper_half_and_sees_nothing_below(codes, tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
    found = []
    for number in range(2):
        picture[8:] = 255 * number  # the half that is not known
        Image.fromarray(picture).save(tmp_path / "image.png")
        found.append(drawn(codes, f"half{number}", "n=4", f"image={tmp_path / 'image.png'}", "rows=8"))
    assert (found[0] == found[1]).all()
    assert (found[0][:, :, :4] == found[0][:1, :, :4]).all()
    assert not (found[0][:, :, 4:] == found[0][:1, :, 4:]).all()
    levels = torch.from_numpy(np.round(picture / 255 * 16))[None, None]
    levels[:, :, 8:] = levels[:, :, 7:8]
    expected = opened(codes).codec.encode(levels)
    assert (torch.from_numpy(found[0])[:1, :, :4] == expected[:, :, :4]).all()
    drawn(codes, "held_out", "n=2", "image=3", "rows=10")


def test_bound_is_reported_and_is_that_of_its_terms(codes, autoencoder):
    words = ("n=12", "threads=1", "seed=1")
    commands.enter("evaluate", f"run={codes}", "metrics=[code_bound]", *words)
    commands.enter("evaluate", f"run={autoencoder}", "metrics=[autoencoder_bound]", *words)
    found, uniform = (
        json.loads((folder / "evaluation" / f"{name}.json").read_text())
        for folder, name in ((codes, "code_bound"), (autoencoder, "autoencoder_bound"))
    )
    assert found["unit"] == uniform["unit"] == "bits/dim"
    assert found["image"] == uniform["image"]
    assert 0 < found["spread"]["codes"] < found["standard_error"]
    loss = [json.loads(line) for line in (codes / "log.jsonl").read_text().splitlines()][-1]["loss"]
    gain = (np.log(6) - loss) * 64 / 256 / np.log(2)  # of the codes, on other images
    assert uniform["mean"] - found["mean"] == pytest.approx(gain, abs=0.1)


def test_metrics_of_samples_and_bundle(codes, tmp_path):
    words = (
        "metrics=[sliced_wasserstein]",
        "features=pixels",
        "n=8",
        "draws=1",
        "threads=1",
        "baselines=false",
    )
    commands.enter("evaluate", f"run={codes}", *words)
    commands.enter("bundle", f"run={codes}", f"out={tmp_path / 'packed'}")
    plain = drawn(codes, "one", "n=2")
    assert (drawn(tmp_path / "packed", "one", "n=2") == plain).all()


def test_mistakes_with_codes(codes, autoencoder, tmp_path, capfd):
    def mistake(*words: str) -> str:
        return commands.mistake(capfd, *words)

    given = (f"codec.run={autoencoder}", "data=digit_grids", *SHORT, f"run={tmp_path / 'no'}")
    of_codes = ("objective=token_cross_entropy", "codec=codes", "model=token_transformer")
    assert "need each other" in mistake("train", "codec=codes", *given)
    assert "need each other" in mistake("train", *of_codes[::2], *given[1:])
    assert "is not the network" in mistake("train", *of_codes[:2], *given)
    assert "has 6 codes" in mistake("train", *of_codes, "model.codes=7", *given)
    assert "for data of shape (1, 16, 16)" in mistake("train", *of_codes, given[0], *given[2:])
    assert "no noise" in mistake("train", *of_codes, *given, "sde=ve")
    sample = ("sample", f"run={codes}", "n=2")
    assert "drawn one after the other" in mistake(*sample, "solver=heun")
    assert "rows=..." in mistake(*sample, "image=0", "mask=mask.png")
    assert "multiple of 2 below 16" in mistake(*sample, "image=0", "rows=3")
    assert "name the image" in mistake(*sample, "rows=4")
    assert "temperature=-1" in mistake(*sample, "temperature=-1")
    assert "without classes" in mistake(*sample, "label=1")
    assert "metrics=[code_bound]" in mistake("evaluate", f"run={codes}", "n=4")
    assert "no stage of a cascade" in mistake("sample", f"run=[{codes},{codes}]")
    assert "metrics=[code_bound]" in mistake("benchmark", f"run={codes}")
