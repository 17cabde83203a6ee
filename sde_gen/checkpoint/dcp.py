"""What PyTorch's distributed checkpoints ask of a storage: safetensors and JSON, where its own has pickles."""

import itertools
from collections.abc import Mapping
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, SavePlan, SavePlanner, WriteItem
from torch.distributed.checkpoint.storage import StorageReader, StorageWriter, WriteResult
from torch.futures import Future

from sde_gen.checkpoint.tensors import TensorShard, TensorSource
from sde_gen.checkpoint.writer import CheckpointWriter


class Writer(StorageWriter):
    """Write tensors named ``<part>/<name>`` to a draft, every process what the plan gives it.

    Arguments:
        writer: the checkpoint.
        parts: its parts; every process writes a file of each.
        rank: number of this process.
        size: number of processes.
    """

    def __init__(self, writer: CheckpointWriter, parts: tuple[str, ...], *, rank: int, size: int) -> None:
        self.writer, self.parts = writer, parts
        self.name = f"{rank}-of-{size}" if size > 1 else ""

    def reset(self, checkpoint_id: Any = None) -> None:
        """Nothing to do."""

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Nothing to do."""

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """As planned."""
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """As planned; one process alone is asked, before any writes."""
        self.writer.begin()
        return plans

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> "Future[list[WriteResult]]":
        """Write part by part, so that no more than one lies in memory."""
        sums: dict[str, str] = {}
        for part in self.parts:
            mine = [item for item in plan.items if item.index.fqn.startswith(f"{part}/")]
            shards = {
                item.index.fqn[len(part) + 1 :]: _piece(item, planner) for item in mine if _filled(item)
            }
            sums |= self.writer.write(part, shards, self.name)
        return _done([sums])

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Move everything into place; one process alone is asked, when all have written."""
        sums: list[Any] = list(itertools.chain(*results))
        self.writer.commit({name: digest for part in sums for name, digest in sorted(part.items())})

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:
        """There is none."""
        return checkpoint_id is None


class Reader(StorageReader):
    """Read tensors, every process the region that it keeps.

    Arguments:
        source: the tensors.
    """

    def __init__(self, source: Mapping[str, TensorSource]) -> None:
        self.source = source

    def reset(self, checkpoint_id: Any = None) -> None:
        """Nothing to do."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Every tensor is whole, whatever files it lies in."""
        whole = {
            name: ChunkStorageMetadata(offsets=torch.Size([0] * len(stored.shape)), sizes=stored.shape)
            for name, stored in self.source.items()
        }
        return Metadata(
            {name: TensorStorageMetadata(TensorProperties(), x.sizes, [x]) for name, x in whole.items()}
        )

    def set_up_storage_reader(
        self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any
    ) -> None:
        """Nothing to do."""

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """As planned."""
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """As planned."""
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> "Future[None]":
        """Copy region by region."""
        for item in plan.items:
            ends = zip(item.storage_offsets, item.lengths, strict=True)
            region = tuple(slice(begin, begin + length) for begin, length in ends)
            target = planner.resolve_tensor(item).detach()
            target.copy_(self.source[item.storage_index.fqn][region])
            planner.commit_tensor(item, target)
        return _done(None)

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:
        """There is none."""
        return checkpoint_id is None


def _filled(item: WriteItem) -> bool:
    """Whether there is something to write: of a tensor with few rows some processes keep none."""
    data = item.tensor_data
    assert data is not None
    return data.chunk.sizes.numel() > 0 or data.size.numel() == 0


def _piece(item: WriteItem, planner: SavePlanner) -> TensorShard:
    data, tensor = item.tensor_data, planner.resolve_data(item)
    assert data is not None
    assert isinstance(tensor, torch.Tensor)
    if data.chunk.sizes == data.size:
        return TensorShard(tensor)
    assert data.chunk.sizes[1:] == data.size[1:]
    return TensorShard(tensor, data.chunk.offsets[0], data.size[0])


def _done(value: Any) -> "Future[Any]":
    future: Future[Any] = Future()
    future.set_result(value)
    return future
