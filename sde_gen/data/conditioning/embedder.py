"""Encoders of texts outside the network: frozen, so that every caption is embedded once."""

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from sde_gen.utils.arguments import Checked

Self = TypeVar("Self", bound="TextEmbedder")
JoinedSelf = TypeVar("JoinedSelf", bound="Joined")


class Embedded(NamedTuple):
    """Embedded texts.

    Attributes:
        tokens: features of every token, float32 with shape (B, L, W).
        mask: which of them the network attends to, with shape (B, L).
        pooled: features of the whole text, float32 with shape (B, P); P may be 0.
    """

    tokens: Tensor
    mask: Tensor
    pooled: Tensor


class EmbeddedSizes(NamedTuple):
    """Sizes of embedded texts: tokens L, features W of a token, features P of the whole text."""

    length: int
    features: int
    pooled: int


def stacked(rows: Sequence[Embedded]) -> Embedded:
    """Join the rows of texts, padded to the most tokens with masked zeros."""
    most = max(row.tokens.shape[1] for row in rows)
    more = [most - row.tokens.shape[1] for row in rows]
    return Embedded(
        torch.cat([F.pad(row.tokens, (0, 0, 0, count)) for row, count in zip(rows, more, strict=True)]),
        torch.cat([F.pad(row.mask, (0, count)) for row, count in zip(rows, more, strict=True)]),
        torch.cat([row.pooled for row in rows]),
    )


class TextEmbedder(Checked, abc.ABC):
    """Abstract encoder of texts that is not trained."""

    @property
    @abc.abstractmethod
    def sizes(self) -> EmbeddedSizes:
        """Sizes of embedded texts.

        Raises:
            ValueError: the files of the encoder are missing, or are not those of the training.
        """

    @property
    @abc.abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """All that determines the features, as plain JSON."""

    @abc.abstractmethod
    def fit(self: Self, texts: Sequence[str]) -> Self:
        """Return the encoder with what it takes from the training captions, and with digests of its files."""

    @abc.abstractmethod
    def stored(self) -> dict[str, Any]:
        """Return what was taken as plain JSON."""

    @abc.abstractmethod
    def restore(self: Self, stored: Mapping[str, Any]) -> Self:
        """Return the encoder with what :meth:`stored` returned."""

    @abc.abstractmethod
    def __call__(self, texts: Sequence[str]) -> Embedded:
        """Embed texts.

        Raises:
            ValueError: a text is too long; the message gives its number and the text.
        """


@dataclass(frozen=True, kw_only=True)
class Joined(TextEmbedder):
    """Abstract join of several encoders.

    Arguments:
        parts: the encoders, by any names.

    Raises:
        ValueError: there are none.
    """

    parts: Mapping[str, TextEmbedder]

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("parts={}: expected at least one encoder of texts")

    def fit(self: JoinedSelf, texts: Sequence[str]) -> JoinedSelf:
        """Fit every embedder."""
        return replace(self, parts={name: part.fit(texts) for name, part in self.parts.items()})

    def stored(self) -> dict[str, Any]:
        """Return what the parts have taken, by their names."""
        return {name: part.stored() for name, part in self.parts.items()}

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Return those of the parts in order, and how they are joined."""
        return {"join": type(self).__name__, "parts": [part.fingerprint for part in self.parts.values()]}

    def restore(self: JoinedSelf, stored: Mapping[str, Any]) -> JoinedSelf:
        """Restore every embedder."""
        return replace(
            self, parts={name: part.restore(stored.get(name, {})) for name, part in self.parts.items()}
        )


@dataclass(frozen=True, kw_only=True)
class Beside(Joined):
    """Encoders whose features of every token are set beside each other, as are those of the whole text.

    Source: Podell et al., 2023, arXiv:2307.01952 (Stable Diffusion XL), section 2.1.

    Arguments:
        parts: the encoders, by any names; their texts have the same number of tokens.

    Raises:
        ValueError: there are none; or, when used, the numbers of tokens differ.
    """

    @property
    def sizes(self) -> EmbeddedSizes:
        """Return the sums of the features, and the number of tokens that all share."""
        sizes = {name: part.sizes for name, part in self.parts.items()}
        lengths = {size.length for size in sizes.values()}
        if len(lengths) > 1:
            listing = ", ".join(f"{size.length} of {name}" for name, size in sizes.items())
            raise ValueError(
                f"the texts have different numbers of tokens, {listing}: give all encoders the same length"
            )
        return EmbeddedSizes(
            lengths.pop(),
            sum(size.features for size in sizes.values()),
            sum(size.pooled for size in sizes.values()),
        )

    def __call__(self, texts: Sequence[str]) -> Embedded:
        """Embed texts by all parts; a token is attended to where that of any part is."""
        found = [part(texts) for part in self.parts.values()]
        most = max(
            one.tokens.shape[1] for one in found
        )  # a text may have more parts for one than for another
        more = [most - one.tokens.shape[1] for one in found]
        return Embedded(
            torch.cat([F.pad(one.tokens, (0, 0, 0, n)) for one, n in zip(found, more, strict=True)], 2),
            torch.stack([F.pad(one.mask, (0, n)) for one, n in zip(found, more, strict=True)]).any(0),
            torch.cat([one.pooled for one in found], 1),
        )


@dataclass(frozen=True, kw_only=True)
class Behind(Joined):
    """Encoders whose tokens are set behind each other, padded with zeros to the most features.

    Source: Esser et al., 2024, arXiv:2403.03206 (Stable Diffusion 3), section 4.

    Arguments:
        parts: the encoders, by any names.

    Raises:
        ValueError: there are none.
    """

    @property
    def sizes(self) -> EmbeddedSizes:
        """Return the sum of the numbers of tokens, and the largest features."""
        sizes = [part.sizes for part in self.parts.values()]
        return EmbeddedSizes(
            sum(size.length for size in sizes),
            max(size.features for size in sizes),
            sum(size.pooled for size in sizes),
        )

    def __call__(self, texts: Sequence[str]) -> Embedded:
        """Embed texts by all parts."""
        found, most = [part(texts) for part in self.parts.values()], self.sizes.features
        return Embedded(
            torch.cat([F.pad(one.tokens, (0, most - one.tokens.shape[2])) for one in found], 1),
            torch.cat([one.mask for one in found], 1),
            torch.cat([one.pooled for one in found], 1),
        )
