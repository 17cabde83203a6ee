"""Handwritten digits of scikit-learn."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sde_gen.data.base import DatasetSource, Splits, random_mask, split


@dataclass(frozen=True, kw_only=True)
class Digits(DatasetSource):
    """1,797 gray digits of 8x8 pixels with 17 levels (0 to 16) in 10 classes; part of scikit-learn, no download.

    Source: Alpaydin and Kaynak, 1998, Optical Recognition of Handwritten Digits, UCI.

    Arguments:
        test_fraction: fraction of the test split.
        seed: seed of the split.
        classes: digits to keep, None for all; they are labeled in this order.

    Raises:
        ValueError: ``classes`` is not a list of different digits.
    """

    test_fraction: float = 1 / 6
    seed: int = 0
    classes: Sequence[int] | None = None

    def __post_init__(self) -> None:
        chosen = self.classes
        if chosen is not None and not (
            chosen and len(set(chosen)) == len(chosen) and set(chosen) <= set(range(10))
        ):
            raise ValueError(
                f"classes={list(chosen)}: expected different digits, such as [3], or null for all"
            )

    def load(self) -> Splits:
        """Load the digits from scikit-learn."""
        from sklearn.datasets import load_digits  # imported lazily: slower than PyTorch

        digits = load_digits()
        values = torch.from_numpy(digits.images).to(torch.uint8).unsqueeze(1)
        labels = torch.from_numpy(digits.target).long()
        test = random_mask(len(values), self.test_fraction, self.seed)
        if self.classes is None:
            return split(values, labels, levels=17, classes=10, test=test)
        place = torch.full((10,), -1)
        place[list(self.classes)] = torch.arange(len(self.classes))
        kept = place[labels] >= 0
        return split(
            values[kept],
            place[labels[kept]],
            levels=17,
            classes=len(self.classes),
            test=test[kept],
            class_names=tuple(map(str, self.classes)),
        )
