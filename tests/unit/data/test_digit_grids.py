"""Canvases of four digits: captions that are true, and combinations and pictures that are held out."""

import pytest
import torch

from sde_gen.data import DigitGrids, Digits, decode_texts
from sde_gen.data.digit_grids import EMPTY

WORDS = "zero one two three four five six seven eight nine".split()
PLACES = {"top left": 0, "top right": 1, "bottom left": 2, "bottom right": 3}


def read(caption: str) -> list[int]:
    """The digit of every cell, as the caption says."""
    cells = [EMPTY] * 4
    for part in caption.split(", "):
        number, place = part.split(" ", 1)
        cells[PLACES[place]] = WORDS.index(number)
    return cells


@pytest.fixture(scope="module")
def splits():
    return DigitGrids(count=300, test_count=100).load()


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_cell_is_a_picture_of_the_digit_that_the_caption_names(splits, split):
    data, digits = getattr(splits, split), getattr(Digits(test_fraction=0.1).load(), split)
    known = [set(map(tuple, digits.values[digits.labels == k].flatten(1).tolist())) for k in range(10)]
    known.append({(0,) * 64})
    captions = decode_texts(data.conditions["text"])
    assert data.conditions["cells"].tolist() == [read(caption) for caption in captions]
    for canvas, caption in zip(data.values[:, 0], captions, strict=True):
        corners = canvas[:8, :8], canvas[:8, 8:], canvas[8:, :8], canvas[8:, 8:]
        for corner, digit in zip(corners, read(caption), strict=True):
            assert tuple(corner.flatten().tolist()) in known[digit]


def test_combinations_are_held_out():
    splits = DigitGrids(count=20_000, test_count=5_000, test_fraction=0.1).load()
    train, test = (set(map(tuple, part.conditions["cells"].tolist())) for part in (splits.train, splits.test))
    assert not train & test
    assert (EMPTY,) * 4 not in train | test
    assert len(train | test) > 10_000  # of 14,640
    assert 1400 < len(test) <= 1464  # a tenth: 5,000 draws leave out one in 30 of them
    assert not torch.equal(DigitGrids(count=9, seed=1).load().train.values, splits.train.values[:9])
