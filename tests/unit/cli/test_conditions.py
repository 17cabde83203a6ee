"""Conditions of a training as a checkpoint stores them."""

from pathlib import Path

import pytest
import torch

from sde_gen.cli import conditions
from sde_gen.data import Dataset, Splits, encode_texts
from sde_gen.data.conditioning import Label, Text


def splits(*captions: str) -> Splits:
    part = Dataset(
        values=torch.zeros(len(captions), 2),
        levels=None,
        classes=1,
        labels=torch.zeros(len(captions), dtype=torch.long),
        conditions={"text": encode_texts(captions)},
    )
    return Splits(train=part, test=part)


def test_a_training_with_labels_stores_no_more_than_before() -> None:
    assert conditions.record(Label(classes=1), splits("a")) == {}
    assert conditions.read({}, Path("run")) == ({}, {})


def test_captions_are_distinguished_by_their_hashes() -> None:
    text = Text().fit(splits("a b", "c").train)
    learned, fingerprint = conditions.read(conditions.record(text, splits("a b", "c")), Path("run"))
    assert Text().restore(learned).sizes == text.sizes
    assert conditions.differences(fingerprint, splits("a b", "c")) == []
    assert conditions.differences(fingerprint, splits("a b", "d")) == [
        "train split with other captions",
        "test split with other captions",
    ]


@pytest.mark.parametrize(
    "stored",
    [3, {}, {"learned": 3, "fingerprint": {}}, {"learned": {}, "fingerprint": {"train": {"text": 3}}}],
)
def test_metadata_of_another_form_are_refused(stored: object) -> None:
    with pytest.raises(ValueError, match="the checkpoint in run has invalid conditions"):
        conditions.read({"conditioning": stored}, Path("run"))


@pytest.mark.parametrize(
    "learned",
    [
        {"length": "long"},
        {"length": 0},
        {"tokenizer": {"words": 3}},
        {"tokenizer": {"words": ["a", "a"]}},
        {"tokenizer": 3},
    ],
)
def test_what_a_stranger_says_was_learned_is_checked(learned: dict) -> None:
    with pytest.raises((ValueError, TypeError)):
        Text().restore(learned)
