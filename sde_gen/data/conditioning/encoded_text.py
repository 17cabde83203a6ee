"""Texts embedded outside the network, with random dropout."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sde_gen.data.base import Dataset
from sde_gen.data.conditioning.base import Conditioning, check_dropout, require
from sde_gen.data.conditioning.embedded_captions import EmbeddedCaptions
from sde_gen.data.conditioning.embedder import Embedded, TextEmbedder
from sde_gen.data.text import decode_captions
from sde_gen.noise import Noise
from sde_gen.utils.broadcasting import broadcast, to_device


@dataclass(frozen=True, kw_only=True)
class EncodedText(Conditioning):
    """Captions embedded by a frozen encoder, randomly replaced by the null.

    The network is given ``tokens`` (B, L, W), their ``mask`` (B, L) and, with ``pooled``, the features of the whole
    text as ``vector`` (B, P). Every caption of the data is embedded once. A checkpoint holds digests of the encoder,
    not its weights. Of several captions of a sample the first is given, and in training one that is drawn anew each
    time.

    Arguments:
        encoder: from texts to embedded ones.
        dropout: probability that a text is dropped.
        learned_null: whether a missing text is what the network learns for it, as with all zeros; False: the empty
            text, embedded.
        pooled: whether the network is given the features of the whole text as its vector.
        cache: folder for the embedded captions, which later trainings read; None keeps them in memory.

    Raises:
        ValueError: dropout lies outside [0, 1].
    """

    encoder: TextEmbedder
    dropout: float = 0.1
    learned_null: bool = True
    pooled: bool = True
    cache: str | None = None

    def __post_init__(self) -> None:
        check_dropout(self.dropout, "texts")
        object.__setattr__(self, "_captions", EmbeddedCaptions(self.encoder))

    @property
    def names(self) -> tuple[str, ...]:
        """Return the name of the column of captions."""
        return ("text",)

    @property
    def keys(self) -> tuple[str, ...]:
        """Return the keys of tokens, mask and vector."""
        return ("tokens", "mask", *(("vector",) if self.pooled else ()))

    @property
    def sizes(self) -> dict[str, int]:
        """Return the features of a token, the number of tokens and the length of the vector."""
        sizes = self.encoder.sizes
        if self.pooled and not sizes.pooled:
            raise ValueError("the encoder gives no features of the whole text: use conditioning.pooled=false")
        return {
            "features": sizes.features,
            "length": sizes.length,
            **({"vector": sizes.pooled} if self.pooled else {}),
        }

    def drops(self, key: str) -> bool:
        """Return whether dropout is positive."""
        return key in self.keys and self.dropout > 0

    def together(self, key: str) -> tuple[str, ...]:
        """Return all keys: they are of one text."""
        return self.keys if key in self.keys else (key,)

    def fit(self, train: Dataset) -> "EncodedText":
        """Fit the encoder to the captions."""
        every = [one for some in decode_captions(require("text", train.conditions)) for one in some]
        return replace(self, encoder=self.encoder.fit(every))

    def stored(self) -> dict[str, Any]:
        """Return digests and sizes of the encoder."""
        return {"encoder": self.encoder.stored()}

    def restore(self, stored: Mapping[str, Any]) -> "EncodedText":
        """Restore digests and sizes of the encoder."""
        return replace(self, encoder=self.encoder.restore(stored["encoder"])) if "encoder" in stored else self

    def prepare(self, data: Dataset) -> Dataset:
        """Embed the captions of the data, or read them from the cache; return the data with their captions alone."""
        rows = require("text", data.conditions)
        known: EmbeddedCaptions = vars(self)["_captions"]
        every = [one for some in decode_captions(rows) for one in some]
        known.add(every, None if self.cache is None else Path(self.cache))
        return replace(data, conditions={"text": rows})

    def given(self, conditions: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the embedded captions."""
        rows = require("text", conditions)
        return self._inputs([some[0] for some in decode_captions(rows)], rows.device)

    def __call__(self, conditions: Mapping[str, Tensor], noise: Noise) -> dict[str, Tensor]:
        """Return the embedded captions, random rows of which are the null."""
        rows = require("text", conditions)
        drawn = noise.uniform(rows).tolist()
        chosen = [some[int(u * len(some))] for some, u in zip(decode_captions(rows), drawn, strict=True)]
        cond = self._inputs(chosen, rows.device)
        if self.dropout == 0:
            return cond
        dropped = noise.uniform(cond["tokens"]) < self.dropout
        return {
            key: torch.where(
                broadcast(dropped, cond[key]), to_device(null, dropped.device, cond[key].dtype), cond[key]
            )
            for key, null in self.null(1).items()
        }

    def null(self, count: int) -> dict[str, Tensor]:
        """Return the features of the empty text, for every sample."""
        empty = self._inputs([""], torch.device("cpu"))
        rows = {key: torch.zeros_like(row) for key, row in empty.items()} if self.learned_null else empty
        return {key: row.expand(count, *row.shape[1:]) for key, row in rows.items()}

    def omitted(self, count: int) -> dict[str, Tensor]:
        """Return the embedded empty text, unless the network has learned its own null."""
        return {} if self.learned_null else self.null(count)

    def default(self, count: int) -> dict[str, Tensor]:
        """Return the features of the empty text."""
        return self.omitted(count)

    def prompt(
        self, typed: Mapping[str, Any], count: int, *, class_names: Sequence[str] = ()
    ) -> dict[str, Tensor]:
        """Embed the typed texts, taken in turn."""
        del class_names
        self.reject_unknown(typed)
        value = typed.get("text")
        if value is None:
            if self.dropout == 0:
                raise ValueError(
                    "the network was never trained without text (conditioning.dropout=0): give text=..."
                )
            return self.default(count)
        values = value if isinstance(value, list | tuple) else [value]
        for one in values:
            if not isinstance(one, str):
                raise ValueError(f"text={one}: expected a text; a number is quoted: text=\"'{one}'\"")
        rows = self._inputs(list(values), torch.device("cpu"))
        return {
            key: row.repeat(-(-count // len(row)), *[1] * (row.ndim - 1))[:count] for key, row in rows.items()
        }

    def _inputs(self, texts: Sequence[str], device: torch.device) -> dict[str, Tensor]:
        known: EmbeddedCaptions = vars(self)["_captions"]
        found: Embedded = known(texts)
        rows = {"tokens": found.tokens, "mask": found.mask, "vector": found.pooled}
        return {key: to_device(rows[key], device, rows[key].dtype) for key in self.keys}
