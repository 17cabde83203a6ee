"""Training a classifier of noised samples with ``objective=cross_entropy``."""

import json
import shutil
from hashlib import sha256

import pytest
import torch
from omegaconf import OmegaConf

from sde_gen.cli.data_spec import DataSpec
from sde_gen.cli.run import load_classifier, load_run
from sde_gen.data import Digits
from tests.helpers import commands, stored_run
from tests.helpers.stored_run import header_of, write_header

DIGITS = DataSpec(shape=(1, 8, 8), levels=17, classes=10)
SMALL = [
    "objective=cross_entropy",
    "model.width=16",
    "engine.images=9600",
    "engine.log_every=2400",
    "engine.checkpoint_every=4800",
    "optimizer.lr=5e-3",
    "lr_schedule.warmup=320",
    "ema.rate=0.99",
]


def opening(folder):
    return OmegaConf.create({"run": str(folder), "checkpoint": None, "trust": [], "device": "cpu"})


@pytest.mark.long
def test_learns_to_tell_digits_apart_and_the_run_rebuilds_it(trained, tmp_path):
    folder = tmp_path / "classifier"
    commands.enter("train", *SMALL, f"run={folder}")
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert records[-1]["loss"] < records[0]["loss"] < 3
    assert not (folder / "previews").exists()
    trained(tmp_path / "run")
    run, test = load_run(opening(tmp_path / "run")), Digits().load().test
    classifier = load_classifier(folder, run)
    guess = classifier.log_probs(run.codec.encode(test.values), torch.tensor(0.05).double()).argmax(1)
    assert float((guess == test.labels).double().mean()) > 0.8  # a tenth by chance
    stored_run.write(tmp_path / "ve", stored_run.config_of(*stored_run.SMALL, "sde=ve"), DIGITS)
    with pytest.raises(ValueError, match="trained with sde="):
        load_classifier(folder, load_run(opening(tmp_path / "ve")))
    with pytest.raises(ValueError, match="holds no classifier"):
        load_classifier(tmp_path / "ve", run)
    with pytest.raises(ValueError, match="cannot sample"):
        load_run(opening(folder))


@pytest.mark.long
def test_mistakes(tmp_path, capfd):
    for arguments, words in [
        (["data=checkerboard"], "no classes"),
        (["model.multipliers=[1,1,1,1,1]"], "multiples of 16"),
        (["conditioning=class"], "use conditioning=target"),
        (["conditioning=none"], "use conditioning=target"),
        (["model=ncsnpp"], "model=adm_encoder or encoder or vector_encoder is"),
        (["weighting=min_snr"], "the objective does not use it"),
        (["preview.n=4"], "a classifier draws no samples"),
        (["encoder=adm"], "write model=adm_encoder"),
        (["encoder.width=8"], "write model.width=8"),
    ]:
        words_given = ("objective=cross_entropy", *arguments, f"run={tmp_path / 'no'}")
        assert words in commands.mistake(capfd, "train", *words_given), arguments
    words_given = ("model=encoder", f"run={tmp_path / 'no'}")
    assert "Encoder is not the network of a NetworkDenoiser" in commands.mistake(capfd, "train", *words_given)


def test_a_classifier_of_an_earlier_version_opens_and_continues(trained, tmp_path):
    """Its network was called encoder, by a separate command; converted ones stored no objective."""
    folder, words = (
        tmp_path / "classifier",
        [*SMALL[:1], "model.width=8", "model.blocks=1", "engine.validate=16"],
    )
    budget = [f"engine.{key}=256" for key in ("images", "log_every", "checkpoint_every")]
    commands.enter("train", *words, *budget, f"run={folder}")
    trained(tmp_path / "run")
    run, x, t = load_run(opening(tmp_path / "run")), torch.zeros(2, 1, 8, 8), torch.tensor(0.5).double()
    expected = load_classifier(folder, run).log_probs(x, t)
    shutil.copytree(folder, tmp_path / "new")
    path = folder / "checkpoints" / f"{256:012d}"
    header = header_of(path)
    config = header["about"]["config"]
    config["encoder"] = config.pop("model")
    for key in ("weighting", "preview"):
        del config[key]
    for objective in ({"objective": config.pop("objective")}, {}):
        write_header(path, {**header, "about": {**header["about"], "config": {**config, **objective}}})
        assert torch.equal(load_classifier(folder, run).log_probs(x, t), expected)
        if objective:
            shutil.copytree(folder, tmp_path / "old")
    weights = []
    for name in ("old", "new"):
        commands.enter("train", "engine.images=512", f"run={tmp_path / name}")
        path = tmp_path / name / "checkpoints" / f"{512:012d}" / "ema.safetensors"
        weights.append(sha256(path.read_bytes()).digest())
    assert weights[0] == weights[1]
