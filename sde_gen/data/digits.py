"""Handwritten digits of scikit-learn."""

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
    """

    test_fraction: float = 1 / 6
    seed: int = 0

    def load(self) -> Splits:
        """Load the digits from scikit-learn."""
        from sklearn.datasets import load_digits  # imported lazily: slower than PyTorch

        digits = load_digits()
        values = torch.from_numpy(digits.images).to(torch.uint8).unsqueeze(1)
        labels = torch.from_numpy(digits.target).long()
        test = random_mask(len(values), self.test_fraction, self.seed)
        return split(values, labels, levels=17, classes=10, test=test)
