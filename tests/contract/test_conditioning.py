"""Contract of conditioning: classes unchanged, dropped at the requested rate."""

import pytest
import torch

from sde_gen.data.conditioning import Label, Unconditional
from sde_gen.noise import IID, PerSample
from tests.helpers.catalogue import make, names

LABELS = torch.arange(20_000) % 3


@pytest.mark.parametrize("name", names("conditioning"))
def test_is_a_function_of_labels_and_noise(name: str) -> None:
    told = make("conditioning", name, **({} if name == "none" else {"classes": 3}))
    first, again = (told(LABELS, IID.seeded(0)) for _ in range(2))
    assert first.keys() == again.keys()
    assert all(torch.equal(first[key], again[key]) and len(first[key]) == len(LABELS) for key in first)


def test_drops_the_share_that_is_asked_for_and_no_class_more_than_another() -> None:
    label = Label(classes=3, dropout=0.25)(LABELS, IID.seeded(0))["label"]
    dropped = label == 3
    assert bool((label == LABELS)[~dropped].all())
    for k in range(3):
        assert float(dropped[LABELS == k].double().mean()) == pytest.approx(
            0.25, abs=0.02
        )  # four standard errors


def test_a_label_s_fate_is_its_own() -> None:
    told = Label(classes=3, dropout=0.5)
    together = told(LABELS[:8], PerSample(range(8)))["label"]
    alone = torch.cat([told(LABELS[i : i + 1], PerSample([i]))["label"] for i in range(8)])
    assert torch.equal(together, alone)


def test_ends_of_the_range() -> None:
    assert Unconditional()(LABELS, IID.seeded(0)) == {}
    assert torch.equal(Label(classes=3, dropout=0.0)(LABELS, IID.seeded(0))["label"], LABELS)
    assert bool((Label(classes=3, dropout=1.0)(LABELS, IID.seeded(0))["label"] == 3).all())


def test_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="no labels"):
        Label(classes=0)
    with pytest.raises(ValueError, match="no labels"):
        Label(classes=3)(None, IID.seeded(0))
    with pytest.raises(ValueError, match="dropout"):
        Label(classes=3, dropout=1.5)
