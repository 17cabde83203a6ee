"""Texts as rows of a tensor, so that captions are indexed, moved and hashed like all conditions."""

from collections.abc import Sequence

import torch
from torch import Tensor


def text_rows(texts: Sequence[str]) -> Tensor:
    """Encode texts in UTF-8, padded with zeros: uint8 with shape (N, bytes of the longest).

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


def texts(rows: Tensor) -> list[str]:
    """Decode the rows of :func:`text_rows`."""
    return [bytes(row).rstrip(b"\0").decode() for row in rows.cpu().numpy()]
