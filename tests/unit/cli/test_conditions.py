"""Conditions of a training as a checkpoint stores them."""

import re
from pathlib import Path

import pytest
import torch

from sde_gen.cli import conditions
from sde_gen.data import Dataset, Splits, encode_texts
from sde_gen.data.conditioning import Label, Several, Text, Unconditional


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


def labeled(*labels: int, **conditions: torch.Tensor) -> Dataset:
    return Dataset(
        values=torch.zeros(len(labels), 2),
        levels=None,
        classes=5,
        class_names=("ant", "bee", "cat", "dog", "elk"),
        labels=torch.tensor(labels),
        conditions=conditions,
    )


def test_classes_without_a_training_sample_are_named_with_their_counts() -> None:
    both = Splits(train=labeled(0, 0, 2), test=labeled(0, 1, 4, 1))
    message = (
        "there is no training sample of bee (2 of 4 test samples), dog (0 of 4) and elk (1 of 4), so the network does "
        "not learn them: remove these classes, or draw another test split"
    )
    for given in (Label(classes=5), Several(parts={"label": Label(classes=5)})):
        with pytest.warns(UserWarning, match=re.escape(message)):
            conditions.warn_of_unseen(given, both)


def test_words_of_test_captions_alone_are_named_with_their_counts() -> None:
    train, test = (
        encode_texts(texts) for texts in (["a red cat", "a dog"], ["a blue cat", "blue elk", "a dog"])
    )
    both = Splits(train=labeled(0, 1, text=train), test=labeled(0, 1, 2, text=test))
    text = Text().fit(both.train)
    message = (
        "2 of 3 test samples have captions with words that no training caption holds, or too few for min_count, so the "
        "network does not learn them: blue (2), elk (1)"
    )
    with pytest.warns(UserWarning, match=re.escape(message)):
        conditions.warn_of_unseen(text, both)


@pytest.mark.filterwarnings("error")
def test_conditions_that_are_all_learned_are_not_warned_of() -> None:
    text = encode_texts(["a dog"] * 5)
    both = Splits(train=labeled(0, 1, 2, 3, 4, text=text), test=labeled(2, 2, 1, 0, 0, text=text))
    conditions.warn_of_unseen(Several(parts={"a": Label(classes=5), "b": Text().fit(both.train)}), both)
    conditions.warn_of_unseen(Unconditional(), Splits(train=labeled(0), test=labeled(1)))
