"""Texts as rows of a tensor, so that captions are indexed, moved and hashed like all conditions."""

from collections.abc import Sequence

import torch
from torch import Tensor

SEPARATOR = "\x1f"
"""Character between several captions of a sample, the unit separator of ASCII."""


def encode_texts(texts: Sequence[str]) -> Tensor:
    """Encode texts in UTF-8, padded with zeros: uint8 with shape (N, bytes of the longest).

    Several captions of a sample are one text, joined by :data:`SEPARATOR`.

    Raises:
        ValueError: a text contains a zero character; the message gives its number.
    """
    encoded = [text.encode() for text in texts]
    for number, text in enumerate(encoded):
        if 0 in text:
            raise ValueError(f"text {number} contains a zero character; remove it")
    length = max(map(len, encoded), default=0)
    padded = b"".join(text.ljust(length, b"\0") for text in encoded)
    return torch.frombuffer(bytearray(padded or b"\0"), dtype=torch.uint8)[: len(padded)].view(
        len(texts), length
    )


def decode_texts(rows: Tensor) -> list[str]:
    """Decode the rows of :func:`encode_texts`."""
    return [bytes(row).rstrip(b"\0").decode() for row in rows.cpu().numpy()]


def decode_captions(rows: Tensor) -> list[list[str]]:
    """Decode the rows of :func:`encode_texts` to the captions of every sample, at least one."""
    return [text.split(SEPARATOR) for text in decode_texts(rows)]
