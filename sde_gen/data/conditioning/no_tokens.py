"""Zeros in the place of an encoder of texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sde_gen.data.conditioning.embedder import Embedded, EmbeddedSizes, TextEmbedder


@dataclass(frozen=True, kw_only=True)
class NoTokens(TextEmbedder):
    """Tokens of zeros, to which a network attends that was trained with a further encoder, now and then dropped.

    Source: Esser et al., 2024, arXiv:2403.03206, section 5.3 (sampling without T5).

    Arguments:
        length: number of tokens.
        features: features of a token.

    Raises:
        ValueError: a number is below 1.
    """

    length: int
    features: int

    def __post_init__(self) -> None:
        if min(self.length, self.features) < 1:
            raise ValueError(f"length={self.length}, features={self.features}: expected at least 1")

    @property
    def sizes(self) -> EmbeddedSizes:
        """Return the given sizes, and no features of the whole text."""
        return EmbeddedSizes(self.length, self.features, 0)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Return the sizes."""
        return {"kind": type(self).__name__, **vars(self)}

    def fit(self, texts: Sequence[str]) -> "NoTokens":
        """Return the same."""
        del texts
        return self

    def stored(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def restore(self, stored: Mapping[str, Any]) -> "NoTokens":
        """Return the same."""
        del stored
        return self

    def __call__(self, texts: Sequence[str]) -> Embedded:
        """Return zeros."""
        count = len(texts)
        return Embedded(
            torch.zeros(count, self.length, self.features),
            torch.ones(count, self.length, dtype=torch.bool),
            torch.zeros(count, 0),
        )
