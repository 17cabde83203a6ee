"""Features of the encoder path of a U-Net, and what is added to them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor


class Residuals(NamedTuple):
    """Features to be added to those of an encoder path.

    Attributes:
        skips: those of the skip connections, fine to coarse, each with shape (B or 1, C, H, W).
        middle: those after the middle.
    """

    skips: Sequence[Tensor]
    middle: Tensor

    def scaled(self, factors: Sequence[Tensor]) -> "Residuals":
        """Multiply by factors (B, 1, 1, 1), the last of which is that of the middle."""
        *of_skips, of_middle = factors
        pairs = zip(of_skips, self.skips, strict=True)
        return Residuals([factor * skip for factor, skip in pairs], of_middle * self.middle)


class Encoded(NamedTuple):
    """Features of the encoder path, and what the decoder path is given beside them.

    Attributes:
        skips: those before every stage and after the last one, fine to coarse.
        middle: those after the middle.
        embedding: embedding of noise label and conditions.
        text: tokens that pixels attend to; None for a network without.
    """

    skips: Sequence[Tensor]
    middle: Tensor
    embedding: Tensor
    text: Any

    def plus(self, residuals: Residuals) -> "Encoded":
        """Add to the skip connections and to the middle."""
        skips = [mine + other for mine, other in zip(self.skips, residuals.skips, strict=True)]
        return self._replace(skips=skips, middle=self.middle + residuals.middle)
