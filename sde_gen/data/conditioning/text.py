"""Texts with random dropout."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from sde_gen.data.base import Dataset
from sde_gen.data.conditioning.base import SingleConditioning, check_dropout, require
from sde_gen.data.conditioning.tokenizer import Tokenizer, Words
from sde_gen.data.text import decode_captions
from sde_gen.noise import Noise

MOST_LISTED = 5
"""Words that a message names."""

ABSENT = -1
"""Number in the place of the tokens of a caption that a sample has not."""


@dataclass(frozen=True, kw_only=True)
class Text(SingleConditioning):
    """Captions as tokens, randomly replaced by the empty text.

    The network's input is int64 with shape (B, length), padded with zeros, which the network does not attend to. The
    null is the empty text, all padding. Of several captions of a sample the first is given, and in training one that is
    drawn anew each time.

    Arguments:
        tokenizer: from a text to tokens.
        length: most tokens of a text; None: those of the longest training caption.
        dropout: probability that a text is dropped.

    Raises:
        ValueError: dropout lies outside [0, 1], or length is not positive.
    """

    tokenizer: Tokenizer = field(default_factory=Words)
    length: int | None = None
    dropout: float = 0.1

    name: ClassVar[str] = "text"
    key: ClassVar[str] = "tokens"

    def __post_init__(self) -> None:
        check_dropout(self.dropout, "texts")
        if self.length is not None and self.length < 1:
            raise ValueError(f"length={self.length}: expected at least 1 token")

    @property
    def sizes(self) -> dict[str, int]:
        """Return the number of tokens known, and that of a text."""
        return {"vocabulary": self.tokenizer.vocabulary, "length": self._length()}

    def fit(self, train: Dataset) -> "Text":
        """Learn the vocabulary, and the length of the longest caption."""
        every = [one for some in decode_captions(require(self.name, train.conditions)) for one in some]
        tokenizer = self.tokenizer.fit(every)
        longest = max(1, *(len(tokenizer(caption)) for caption in every))
        return replace(self, tokenizer=tokenizer, length=longest if self.length is None else self.length)

    def unseen(self, train: Dataset, test: Dataset) -> list[str]:
        """Describe the words of test captions that the tokenizer does not know, with the numbers of their samples."""
        del train
        unknown = [
            {word for caption in some for word in self.tokenizer.unknown(caption)}
            for some in decode_captions(require(self.name, test.conditions))
        ]
        counts = Counter(word for words in unknown for word in words)
        if not counts:
            return []
        ordered = sorted(counts, key=lambda word: (-counts[word], word))
        more = f" and {len(ordered) - MOST_LISTED} more" if len(ordered) > MOST_LISTED else ""
        return [
            f"{sum(map(bool, unknown)):,} of {len(test):,} test samples have captions with words that no training "
            "caption holds, or too few for min_count, so the network does not learn them: "
            + ", ".join(f"{word} ({counts[word]})" for word in ordered[:MOST_LISTED])
            + more
        ]

    def stored(self) -> dict[str, Any]:
        """Return vocabulary and length."""
        return {"length": self._length(), "tokenizer": self.tokenizer.stored()}

    def restore(self, stored: Mapping[str, Any]) -> "Text":
        """Restore vocabulary and length."""
        tokenizer = self.tokenizer.restore(stored.get("tokenizer", {}))
        return replace(self, tokenizer=tokenizer, length=stored.get("length", self.length))

    def prepare(self, data: Dataset) -> Dataset:
        """Return the data with tokens in place of captions."""
        rows = require(self.name, data.conditions)
        return replace(data, conditions={self.name: self._tokens(rows)})

    def transform(self, rows: Tensor) -> Tensor:
        """Encode captions (B, bytes) to tokens (B, length), or take prepared ones; of several captions the first."""
        tokens = self._tokens(rows)
        return tokens if tokens.ndim == 2 else tokens[:, 0]

    def __call__(self, conditions: Mapping[str, Tensor], noise: Noise) -> dict[str, Tensor]:
        """Draw one of several captions, transform it, and replace random rows by the null."""
        tokens = self._tokens(require(self.name, conditions))
        if tokens.ndim == 3:
            count = (tokens[:, :, 0] != ABSENT).sum(1)
            chosen = (noise.uniform(tokens) * count).long()
            tokens = tokens[torch.arange(len(tokens), device=tokens.device), chosen]
        return super().__call__({self.name: tokens}, noise)

    def null_row(self) -> Tensor:
        """Return the empty text, padding alone."""
        return torch.zeros(1, self._length(), dtype=torch.int64)

    def parse(self, values: Sequence[Any], class_names: Sequence[str]) -> Tensor:
        """Encode typed texts."""
        del class_names
        for value in values:
            if not isinstance(value, str):
                raise ValueError(f"text={value}: expected a text; a number is quoted: text=\"'{value}'\"")
        return self._rows(list(values), strict=True)

    def _tokens(self, rows: Tensor) -> Tensor:
        """Encode captions, or take prepared ones: (B, length), or (B, K, length) if a sample has several."""
        if rows.dtype == torch.int64:
            return rows
        several = decode_captions(rows)
        if max(map(len, several), default=1) == 1:
            return self._rows([one for (one,) in several], strict=False).to(rows.device)
        tokens = torch.full((len(several), max(map(len, several)), self._length()), ABSENT)
        for number, some in enumerate(several):
            tokens[number, : len(some)] = self._rows(some, strict=False, sample=number)
        return tokens.to(rows.device)

    def _rows(self, texts: Sequence[str], *, strict: bool, sample: int | None = None) -> Tensor:
        length, rows = self._length(), []
        for number, caption in enumerate(texts):
            tokens = self.tokenizer(caption, strict=strict)
            if len(tokens) > length:
                where = (
                    f"text={caption}"
                    if strict
                    else f"the caption of sample {number if sample is None else sample}, {caption!r},"
                )
                raise ValueError(
                    f"{where} has {len(tokens)} tokens; the longest that the network takes has {length}: shorten it"
                    + ("" if strict else f", or train with conditioning.length={len(tokens)}")
                )
            rows.append(tokens + [0] * (length - len(tokens)))
        return torch.tensor(rows)

    def _length(self) -> int:
        if self.length is None:
            raise ValueError("the length of the texts is not known; give it, or call fit(train)")
        return self.length
