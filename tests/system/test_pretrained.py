"""Pretrained models of the package: intact, small, described by a card, and never written to."""

import json
import shutil
import sys
from pathlib import Path

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


@pytest.mark.long
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


@pytest.mark.long
def test_a_run_becomes_a_model_whose_figures_are_those_of_the_files(tmp_path, monkeypatch, capsys):
    """By the script: density, then metrics of samples; measured again, a figure replaces that of the same name."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    import pretrain_card

    shutil.copytree(pretrained.FOLDER / "digits-vp" / "checkpoints", tmp_path / "run" / "checkpoints")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path / "pretrained")
    monkeypatch.setattr(pretrained, "names", lambda: ["mine"])
    monkeypatch.setattr(
        pretrain_card.subprocess, "run", lambda words, check: enter("evaluate", *words[3:], *FEW)
    )
    arguments = ["--evaluate", "metrics=[bpd]", "n=4", "integrator.steps=2", "batch_size=4"]
    about = ["--description", "a", "--data", "b", "--command", "c"]
    script(monkeypatch, pretrain_card, "make", "run", "mine", *about, *arguments)
    card = pretrained.verify(tmp_path / "pretrained" / "mine")
    assert card.sha256 == pretrained.Card.read(Path(sg.__file__).parent / "pretrained" / "digits-vp").sha256
    work = tmp_path / "runs" / "pretrained_cards" / "mine"
    (density,) = (json.loads(path.read_text()) for path in work.glob("*/bpd.json"))
    (figure,) = card.figures
    assert figure.mean == pytest.approx(density["mean"], rel=1e-4)
    assert figure.standard_error == pytest.approx(density["standard_error"], rel=1e-4)
    assert (figure.images, figure.split, figure.unit) == (4, "test", "bits/dim")
    assert figure.command.endswith("run=pretrained/mine metrics=[bpd] n=4 integrator.steps=2 batch_size=4")
    words = ["metrics=[sliced_wasserstein]", "n=20", "draws=3", "steps=2"]
    words += ["metric.sliced_wasserstein.count=8"]
    for _ in range(2):
        script(monkeypatch, pretrain_card, "measure", "mine", "--evaluate", *words)
    card = pretrained.verify(tmp_path / "pretrained" / "mine")
    (samples,) = (json.loads(path.read_text()) for path in work.glob("*/sliced*.json"))
    assert card.figures[0] == figure
    (second,) = card.figures[1:]
    assert second.name == samples["name"]
    assert (second.images, second.split, second.nfe) == (20, "train", 3)
    values = [one["quantities"][second.name]["value"] for one in samples["draws"]]
    assert second.draws == pytest.approx(values, rel=1e-4)
    assert second.mean == pytest.approx(sum(values) / 3, rel=1e-4)
    found = samples["baselines"]["null: noise N(0, I)"]["quantities"][second.name]
    assert second.baselines["null: noise N(0, I)"] == pytest.approx(
        [found["value"], found["standard_error"]], rel=1e-4
    )
    assert len(second.baselines) == 3
    assert sorted(path.name for path in (tmp_path / "pretrained" / "mine").iterdir()) == [
        "card.yaml", "checkpoints"
    ]  # fmt: skip
    assert second.name in capsys.readouterr().out
    script(monkeypatch, pretrain_card, "table")
    head, _, first, last = capsys.readouterr().out.strip().splitlines()[-4:]
    assert "| bpd |" in first
    assert f"{figure.mean:.2f}" in first
    assert all(f"{value:.3g}" in last for value in second.draws)
    assert "null: noise N(0, I) " in last
    assert len({line.count("|") for line in (head, first, last)}) == 1
    assert pretrain_card.portable(["n=4", "data.root=/a"]) == ["n=4"]
    with pytest.raises(SystemExit, match="exists already"):
        script(monkeypatch, pretrain_card, "make", "run", "mine", *about)


FEW = ("device=cpu", "threads=1")


def script(monkeypatch, module, *words):
    """Run a script in this process."""
    monkeypatch.setattr(sys, "argv", ["pretrain_card.py", *words])
    module.main()


def test_a_figure_without_standard_error_is_refused():
    with pytest.raises(ValueError, match="the file of bpd holds no figure with standard error"):
        pretrained.Figure.of({"metric": "bpd", "mean": 1.0, "standard_error": None, "settings": {}}, "")


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
