"""The door that trains a classifier of noised samples."""

import json

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from sde_gen import build, train_classifier
from sde_gen.data import Digits
from sde_gen.engine import checkpoint
from tests.system import test_doors

SMALL = ["encoder.width=16", "engine.images=19200", "engine.log_every=4800", "engine.checkpoint_every=9600"]


@pytest.fixture(autouse=True)
def _door(monkeypatch):
    monkeypatch.setitem(test_doors.DOORS, "train_classifier", train_classifier.main)


def test_learns_to_tell_digits_apart_and_the_run_rebuilds_it(tmp_path):
    folder = tmp_path / "classifier"
    test_doors.enter("train_classifier", *SMALL, f"run={folder}")
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert records[-1]["loss"] < records[0]["loss"] < 3
    assert not (folder / "previews").exists()
    saved = checkpoint.latest(folder / "checkpoints")
    facts = build.Facts(**saved.about["facts"])
    classifier = build.classifier(OmegaConf.create(saved.about["config"]), facts).eval()
    classifier.net.load_state_dict(saved.ema)
    test = Digits().load().test
    x = instantiate(OmegaConf.create(saved.about["config"]).codec, **{"levels": 17}).encode(test.values)
    with torch.no_grad():
        guess = classifier.log_probs(x, torch.tensor(0.05).double()).argmax(1)
    assert float((guess == test.labels).double().mean()) > 0.8  # a tenth by chance


def test_mistakes(tmp_path, capfd):
    for arguments, words in [
        (["data=checkerboard"], "no classes"),
        (["encoder.multipliers=[1,1,1,1,1]"], "multiples of 16"),
    ]:
        assert words in test_doors.mistake(capfd, "train_classifier", *arguments, f"run={tmp_path / 'no'}")
