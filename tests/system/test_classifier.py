"""Training a classifier of noised samples with the train_classifier command."""

import json

import pytest
import torch
from omegaconf import OmegaConf

from sde_gen.cli import train_classifier
from sde_gen.cli.run import load_classifier, load_run
from sde_gen.data import Digits
from tests.system import test_commands

SMALL = ["encoder.width=16", "engine.images=19200", "engine.log_every=4800", "engine.checkpoint_every=9600"]


def opening(folder):
    return OmegaConf.create({"run": str(folder), "checkpoint": None, "trust": [], "device": "cpu"})


@pytest.fixture(autouse=True)
def _door(monkeypatch):
    monkeypatch.setitem(test_commands.COMMANDS, "train_classifier", train_classifier.main)


def test_learns_to_tell_digits_apart_and_the_run_rebuilds_it(tmp_path):
    folder = tmp_path / "classifier"
    test_commands.enter("train_classifier", *SMALL, f"run={folder}")
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert records[-1]["loss"] < records[0]["loss"] < 3
    assert not (folder / "previews").exists()
    test_commands.enter("train", *test_commands.TINY, f"run={tmp_path / 'run'}")
    run, test = load_run(opening(tmp_path / "run")), Digits().load().test
    classifier = load_classifier(folder, run)
    guess = classifier.log_probs(run.codec.encode(test.values), torch.tensor(0.05).double()).argmax(1)
    assert float((guess == test.labels).double().mean()) > 0.8  # a tenth by chance
    test_commands.enter("train", *test_commands.TINY, "sde=ve", f"run={tmp_path / 've'}")
    with pytest.raises(ValueError, match="trained with sde="):
        load_classifier(folder, load_run(opening(tmp_path / "ve")))
    with pytest.raises(ValueError, match="holds no classifier"):
        load_classifier(tmp_path / "ve", run)
    with pytest.raises(ValueError, match="cannot sample"):
        load_run(opening(folder))


def test_mistakes(tmp_path, capfd):
    for arguments, words in [
        (["data=checkerboard"], "no classes"),
        (["encoder.multipliers=[1,1,1,1,1]"], "multiples of 16"),
    ]:
        assert words in test_commands.mistake(capfd, "train_classifier", *arguments, f"run={tmp_path / 'no'}")
