"""Pretrained models of the package: intact, small, described by a card, and never written to."""

import json
import shutil

import pytest
import torch
import yaml

import sde_gen as sg
from sde_gen.cli import pretrained
from tests.helpers.commands import enter, mistake

NAMES = pretrained.names()


@pytest.mark.parametrize("name", NAMES)
def test_every_model_has_a_matching_card_and_samples(name):
    card = pretrained.verify(pretrained.FOLDER / name)
    assert card.name == name
    assert card.figures
    assert all(each.standard_error > 0 for each in card.figures)
    assert all([card.description, card.data, card.process, card.network, card.command, card.license])
    files = [path for path in (pretrained.FOLDER / name).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 8_100_000
    run = sg.load(name, device="cpu")
    assert run.run.images == card.images
    assert not run.run.data.places
    assert torch.equal(
        run.sample(2, sampler=sg.Sampler(steps=2)),
        sg.load(f"pretrained/{name}").sample(2, sampler=sg.Sampler(steps=2)),
    )


def test_commands_write_to_a_copy(tmp_path, monkeypatch, capfd):
    before = sorted((path, path.stat().st_mtime_ns) for path in pretrained.FOLDER.rglob("*"))
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        enter("sample", "run=pretrained/digits-vp", "n=2", "steps=2", "device=cpu", "threads=1")
    copy = tmp_path / "runs" / "pretrained" / "digits-vp"
    assert list((copy / "samples").rglob("samples.npz"))
    enter("evaluate", "run=pretrained/digits-vp", "metrics=[bpd]", "n=2", "integrator.steps=2", "threads=1")
    assert (copy / "evaluation" / "bpd.json").is_file()
    assert "init=pretrained/digits-vp" in mistake(capfd, "train", "run=pretrained/digits-vp")
    assert "init=runs/pretrained/digits-vp" in mistake(capfd, "train", "run=runs/pretrained/digits-vp")
    assert "digits-vp" in mistake(capfd, "sample", "run=pretrained/digits_vp")
    assert sorted((path, path.stat().st_mtime_ns) for path in pretrained.FOLDER.rglob("*")) == before
    card = yaml.safe_load((copy / "card.yaml").read_text())
    (copy / "card.yaml").write_text(yaml.safe_dump({**card, "sha256": "0" * 64}))
    assert "is of other weights" in mistake(capfd, "sample", "run=pretrained/digits-vp")
    (copy / "card.yaml").write_text("figures: 3")
    assert "is no model card" in mistake(capfd, "sample", "run=pretrained/digits-vp")


def test_damaged_weights_are_rejected(tmp_path):
    shutil.copytree(pretrained.FOLDER / "digits-vp", tmp_path / "digits-vp")
    file = next(tmp_path.rglob("ema.safetensors"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match="the card of digits-vp is of other weights"):
        pretrained.verify(tmp_path / "digits-vp")
    file.unlink()
    with pytest.raises(ValueError, match="incomplete"):
        pretrained.verify(tmp_path / "digits-vp")


def test_averages_are_rounded_and_buffers_are_not():
    path = next((pretrained.FOLDER / "digits-vp").rglob("checkpoint.json"))
    assert "/" not in json.loads(path.read_text())["about"]["config"]["run"].removeprefix("runs/")
    net = sg.load("digits-vp", device="cpu").denoiser.net
    assert torch.equal(net.stem.weight, net.stem.weight.bfloat16().float())
    assert not torch.equal(net.embedding.frequencies, net.embedding.frequencies.bfloat16().float())


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("digits")])
def test_the_figure_of_a_card_is_reproduced(name, tmp_path):
    card = pretrained.Card.read(pretrained.FOLDER / name)
    figure = card.figures[0]
    words = figure.command.split()[4:]
    folder = tmp_path / name
    shutil.copytree(pretrained.FOLDER / name, folder)
    enter("evaluate", f"run={folder}", *words, "n=100", "batch_size=50")
    found = json.loads((folder / "evaluation" / "bpd.json").read_text())
    spread = (found["standard_error"] ** 2 + figure.standard_error**2) ** 0.5
    assert abs(found["mean"] - figure.mean) < 5 * spread
