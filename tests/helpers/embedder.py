"""An encoder of texts whose features are known: numbers of letters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from sde_gen.data.conditioning import Embedded, EmbeddedSizes, TextEmbedder


@dataclass(frozen=True, kw_only=True)
class Letters(TextEmbedder):
    """Every letter is a token: its code and its place; the whole text is the sum of the codes and one.

    Arguments:
        length: most letters; None: those of the longest training caption.
        pooled: whether there are features of the whole text.
        factor: factor of the features.
    """

    length: int | None = None
    pooled: bool = True
    factor: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "calls", [])

    @property
    def sizes(self) -> EmbeddedSizes:
        assert self.length is not None, "call fit"
        return EmbeddedSizes(self.length, 2, 2 if self.pooled else 0)

    @property
    def fingerprint(self) -> dict[str, Any]:
        return {"length": self.length, "factor": self.factor}

    def fit(self, texts: Sequence[str]) -> "Letters":
        return replace(self, length=max(map(len, texts)) if self.length is None else self.length)

    def stored(self) -> dict[str, Any]:
        return {"length": self.length}

    def restore(self, stored: Mapping[str, Any]) -> "Letters":
        return replace(self, **stored)

    def __call__(self, texts: Sequence[str]) -> Embedded:
        vars(self)["calls"].extend(texts)
        tokens = torch.zeros(len(texts), self.sizes.length, 2)
        mask = torch.zeros(len(texts), self.sizes.length, dtype=torch.bool)
        pooled = torch.zeros(len(texts), self.sizes.pooled)
        for row, text in enumerate(texts):
            if len(text) > self.sizes.length:
                raise ValueError(f"text={text} has {len(text)} letters")
            codes = self.factor * torch.tensor([float(ord(letter)) for letter in text])
            tokens[row, : len(text)] = torch.stack([codes, 1.0 + torch.arange(len(text))], 1)
            mask[row, : len(text)] = True
            if self.pooled:
                pooled[row] = torch.stack([codes.sum(), torch.tensor(1.0)])
        return Embedded(tokens, mask, pooled)
