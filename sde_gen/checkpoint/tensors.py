"""Tensor shards in safetensors files: serialization and lazy loading."""

import functools
import json
import operator
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sde_gen.checkpoint.manifest import line
from sde_gen.distributed.storage import Region, TensorShard
from sde_gen.utils.tensor_file import put_tensors


def put_shards(path: Path, shards: Mapping[str, TensorShard]) -> str:
    """Write a file and return its SHA-256; its header stores row ranges as ``{"rows": {name: [begin, size]}}``."""
    tensors = {name: piece.tensor for name, piece in shards.items()}
    rows = {name: [piece.begin, piece.size] for name, piece in shards.items() if piece.size is not None}
    return put_tensors(path, tensors, {"rows": json.dumps(rows)} if rows else None)


class _Block(NamedTuple):
    """Rows begin to end of a tensor in a file, the number of rows of the tensor, and its dtype and row shape."""

    begin: int
    end: int
    size: int
    kind: tuple[str, list[int]]
    file: Path


class LazyTensor:
    """Tensor on disk; indexing reads the selected region only.

    Arguments:
        name: name in the files.
        shape: shape of the tensor.
        blocks: its rows in order.
        opened: function that opens a file.
    """

    def __init__(
        self, name: str, shape: Sequence[int], blocks: Sequence[_Block], opened: Callable[[Path], Any]
    ) -> None:
        self.name, self.shape, self.blocks, self.opened = name, torch.Size(shape), blocks, opened

    def __getitem__(self, region: Region) -> Tensor:
        """Read a region into CPU memory."""
        if not self.shape:
            found: Tensor = self.opened(self.blocks[0].file).get_tensor(self.name)
            return found
        rows, *rest = region or (slice(None),)
        begin, end, _ = rows.indices(self.shape[0])
        cuts = []
        for block in self.blocks:
            first, last = max(begin, block.begin), min(end, block.end)
            if first < last or not self.shape[0]:
                stored = self.opened(block.file).get_slice(self.name)
                cuts.append(stored[first - block.begin : last - block.begin])
        found = cuts[0] if len(cuts) == 1 else torch.cat(cuts)
        return found[(slice(None), *rest)]


def open_shards(files: Sequence[Path]) -> dict[str, LazyTensor]:
    """Open the tensors of several files; only headers are read, and no code is executed.

    Raises:
        ValueError: a file was not written by this package, or rows are missing; the message names the file.
    """
    opened: Callable[[Path], Any] = functools.lru_cache(64)(functools.partial(safe_open, framework="pt"))
    found: dict[str, list[_Block]] = {}
    for path in files:
        try:
            file = opened(path)
            rows = _rows(file.metadata() or {})
        except (SafetensorError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise ValueError(f"{path} was not written by this package ({line(str(error), 100)})") from error
        for name in file.keys():
            stored = file.get_slice(name)
            count, *row = stored.get_shape() or [1]
            begin, size = rows.get(name, (0, count))
            found.setdefault(name, []).append(
                _Block(begin, begin + count, size, (stored.get_dtype(), row), path)
            )
    tensors = {}
    for name, blocks in found.items():
        blocks.sort()
        _check(name, blocks)
        scalar = not opened(blocks[0].file).get_slice(name).get_shape()
        tensors[name] = LazyTensor(
            name, [] if scalar else [blocks[0].size, *blocks[0].kind[1]], blocks, opened
        )
    return tensors


def _rows(header: dict[str, str]) -> dict[str, tuple[int, int]]:
    rows = json.loads(header.get("rows", "{}"))
    return {name: (operator.index(begin), operator.index(size)) for name, (begin, size) in rows.items()}


def _check(name: str, blocks: Sequence[_Block]) -> None:
    """Check that the blocks have the same dtype and row shape, and that each begins where the previous one ends."""
    first, end = blocks[0], 0
    for block in blocks:
        if (block.begin, block.size, block.kind) != (end, first.size, first.kind):
            raise ValueError(
                f"{block.file} does not fit the files beside it: of the tensor {line(name, 80)} it holds rows "
                f"{block.begin} to {block.end} of {block.size}, {block.kind[0]} {block.kind[1]}, where row {end} of "
                f"{first.size}, {first.kind[0]} {first.kind[1]} should follow"
            )
        end = block.end
    if end != first.size:
        raise ValueError(
            f"{blocks[-1].file} is the last with rows of the tensor {line(name, 80)}: "
            f"{end} of {first.size} rows are there"
        )
