"""Embedded captions of data: each computed once, in memory or in a folder."""

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sde_gen.data.atomic_build import build_atomically, checked_read
from sde_gen.data.conditioning.embedder import Embedded, TextEmbedder, stacked
from sde_gen.utils.atomic import create

MOST_IN_MEMORY = 4 * 2**30
"""Bytes of embedded captions that are kept without a folder, at most."""


class EmbeddedCaptions:
    """Embedded texts by text. Every text is embedded by itself, so that its features do not depend on others.

    Arguments:
        encoder: from texts to embedded ones.
    """

    def __init__(self, encoder: TextEmbedder) -> None:
        self.encoder = encoder
        self.places: dict[str, tuple[Embedded, int]] = {}

    def __call__(self, texts: Sequence[str]) -> Embedded:
        """Return the features of texts, known or not."""
        found = [self._row(text) for text in texts]
        return stacked([Embedded(*(part.unsqueeze(0) for part in row)) for row in found])

    def add(self, texts: Sequence[str], cache: Path | None) -> None:
        """Embed the texts that are not known yet, or read them from a folder inside ``cache`` where they are.

        Raises:
            ValueError: a text is too long, the folder is damaged, or the features are too many for the memory.
            OSError: the disk is full; no part of the folder remains.
        """
        new = sorted(set(texts) - self.places.keys())
        if not new:
            return
        table = self._table(new) if cache is None else self._cached(new, cache)
        self.places.update({text: (table, row) for row, text in enumerate(new)})

    def _row(self, text: str) -> tuple[Tensor, Tensor, Tensor]:
        if text in self.places:
            table, row = self.places[text]
            return table.tokens[row], table.mask[row], table.pooled[row]
        tokens, mask, pooled = self.encoder([text])
        return tokens[0], mask[0], pooled[0]

    def _table(self, texts: Sequence[str]) -> Embedded:
        size = len(texts) * self.encoder.sizes.length * self.encoder.sizes.features * 4
        if size > MOST_IN_MEMORY:
            raise ValueError(
                f"{len(texts):,} captions take {size / 2**30:.1f} GiB embedded: give a folder for them, "
                "conditioning.cache=FOLDER"
            )
        return Embedded(*(torch.stack(part) for part in zip(*map(self._row, texts), strict=True)))

    def _cached(self, texts: Sequence[str], cache: Path) -> Embedded:
        settings = {
            "encoder": self.encoder.fingerprint,
            "captions": hashlib.sha256(json.dumps(texts).encode()).hexdigest(),
            "count": len(texts),
        }
        name = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
        folder = cache / f"captions-{name}"
        content = build_atomically(folder, settings, lambda growing: self._write(growing, texts))
        with checked_read(folder):
            return Embedded(*(_mapped(folder / f"{part}.bin", content[part]) for part in Embedded._fields))

    def _write(self, folder: Path, texts: Sequence[str]) -> dict[str, Any]:
        """Write the features of texts, and return shapes and digests."""
        sums = {part: hashlib.sha256() for part in Embedded._fields}
        shapes: dict[str, list[int]] = {}
        files = {part: create(folder / f"{part}.bin") for part in Embedded._fields}
        try:
            for text in texts:
                for part, value in zip(Embedded._fields, self._row(text), strict=True):
                    content = value.contiguous().numpy().tobytes()
                    files[part].write(content)
                    sums[part].update(content)
                    shapes[part] = [len(texts), *value.shape]
        finally:
            for file in files.values():
                file.close()
        return {part: {"shape": shapes[part], "sha256": sums[part].hexdigest()} for part in shapes}


def _mapped(path: Path, content: dict[str, Any]) -> Tensor:
    """Map a file of features into memory.

    Raises:
        ValueError: the file has another size.
    """
    kind = np.dtype(bool) if path.stem == "mask" else np.dtype(np.float32)
    shape = tuple(map(int, content["shape"]))
    if path.stat().st_size != math.prod(shape) * kind.itemsize:
        raise ValueError(
            f"{path.name} has {path.stat().st_size} bytes, not {math.prod(shape) * kind.itemsize}"
        )
    if math.prod(shape) == 0:
        return torch.zeros(shape)
    return torch.from_numpy(
        np.memmap(path, dtype=kind, mode="c", shape=shape)
    )  # "r" would warn of what is not written
