"""Four handwritten digits on a canvas, with a caption that says which digit is where."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.data.base import Dataset, DatasetSource, Splits, check_fraction, random_mask
from sde_gen.data.digits import Digits
from sde_gen.data.text import encode_texts

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CELLS = ("top left", "top right", "bottom left", "bottom right")
EMPTY = 10
"""Number of an empty cell."""


@dataclass(frozen=True, kw_only=True)
class DigitGrids(DatasetSource):
    """Real 8x8 digits with 17 levels in the four cells of a 16x16 canvas, with captions; no download.

    A caption names the digits and their cells, such as "three top left, seven bottom right"; a cell without a digit is
    left out. The canvases of the test split show combinations of digits, and pictures of them, that no canvas of the
    training split shows. The condition ``cells`` holds the digit of every cell, int64 with shape (N, 4), 10 where there
    is none.

    Source of the digits: Alpaydin and Kaynak, 1998, Optical Recognition of Handwritten Digits, UCI.

    Arguments:
        count: number of canvases of the training split.
        test_count: number of canvases of the test split.
        test_fraction: share of the 11^4 - 1 combinations, and of the pictures of digits, that are held out.
        seed: draws the canvases and what is held out.

    Raises:
        ValueError: a number is not positive, or test_fraction lies outside (0, 1).
    """

    count: int = 20_000
    test_count: int = 2_000
    test_fraction: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        check_fraction(self.test_fraction)
        if self.count < 1 or self.test_count < 1:
            raise ValueError(f"count={self.count}, test_count={self.test_count}: both splits need canvases")

    def load(self) -> Splits:
        """Draw the canvases."""
        digits = Digits(test_fraction=self.test_fraction, seed=self.seed).load()
        combinations = torch.cartesian_prod(*[torch.arange(EMPTY + 1)] * len(CELLS))[
            :-1
        ]  # not the empty canvas
        test = random_mask(len(combinations), self.test_fraction, self.seed)
        generator = torch.Generator().manual_seed(self.seed)
        return Splits(
            train=_draw(digits.train, combinations[~test], self.count, generator),
            test=_draw(digits.test, combinations[test], self.test_count, generator),
        )


def _draw(digits: Dataset, combinations: Tensor, count: int, generator: torch.Generator) -> Dataset:
    """Draw combinations, and a picture of every digit of them."""
    assert isinstance(digits.values, Tensor)
    assert digits.labels is not None
    cells = combinations[torch.randint(len(combinations), (count,), generator=generator)]
    picture = torch.full_like(cells, len(digits))  # behind the last one: an empty cell
    for number in range(EMPTY):
        those = (digits.labels == number).nonzero().squeeze(1)
        where = cells == number
        picture[where] = those[torch.randint(len(those), (int(where.sum()),), generator=generator)]
    pictures = torch.cat([digits.values, torch.zeros_like(digits.values[:1])])[picture]  # (N, 4, 1, 8, 8)
    rows = pictures.view(count, 2, 2, 8, 8).transpose(2, 3)
    return Dataset(
        values=rows.reshape(count, 1, 16, 16),
        levels=digits.levels,
        conditions={"text": encode_texts([caption(row) for row in cells.tolist()]), "cells": cells},
    )


def caption(cells: list[int]) -> str:
    """Return the caption of four cells: top left, top right, bottom left and bottom right."""
    return ", ".join(
        f"{NUMBERS[digit]} {cell}" for digit, cell in zip(cells, CELLS, strict=True) if digit != EMPTY
    )
