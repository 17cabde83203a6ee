"""Protocols of a checkpoint's storage: tensor shards, tensors to read, and the writer of a checkpoint."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

Region = tuple[slice, ...]
"""A slice of each axis of a tensor; the empty tuple selects the whole tensor."""


class TensorShard(NamedTuple):
    """Contiguous rows of a tensor, or the whole tensor.

    Arguments:
        tensor: the rows.
        begin: index of the first row in the whole tensor.
        size: number of rows of the whole tensor; None if the shard is the whole tensor.
    """

    tensor: Tensor
    begin: int = 0
    size: int | None = None


class TensorSource(Protocol):
    """A tensor, or an object that loads one by indexing: ``x[()]``."""

    @property
    def shape(self) -> torch.Size:
        """Shape of the full tensor."""
        ...

    def __getitem__(self, region: Region, /) -> Tensor:
        """Return the values of a region."""
        ...


class ShardWriter(Protocol):
    """A writer of a checkpoint's tensors, by one process or by several."""

    def begin(self) -> None:
        """Prepare for writing; called by one process, before any process writes."""
        ...

    def write(self, part: str, shards: Mapping[str, TensorShard], suffix: str = "") -> dict[str, str]:
        """Write the shards of a part to a file.

        Returns:
            The file's name and SHA-256.
        """
        ...

    def commit(self, checksums: Mapping[str, str]) -> None:
        """Complete the checkpoint; called by one process, after all processes have written.

        Arguments:
            checksums: the SHA-256 of every file, by its name.
        """
        ...
