"""Adapters of PyTorch's distributed checkpoint (DCP) to safetensors and JSON files, without pickles."""

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
from typing_extensions import override

from sde_gen.distributed.storage import ShardWriter, TensorShard, TensorSource


class DCPWriter(StorageWriter):
    """Write tensors named ``<part>/<name>``, every process the shards of its plan.

    Arguments:
        writer: the writer of the checkpoint.
        parts: the parts of the checkpoint; every process writes one file of each.
        rank: rank of this process.
        size: number of processes.
    """

    def __init__(self, writer: ShardWriter, parts: tuple[str, ...], *, rank: int, size: int) -> None:
        self.writer, self.parts = writer, parts
        self.suffix = f"{rank}-of-{size}" if size > 1 else ""

    @override
    def reset(self, checkpoint_id: Any = None) -> None:
        pass

    @override
    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        pass

    @override
    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        return plan

    @override
    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        self.writer.begin()  # DCP calls this in the coordinator only, before any process writes
        return plans

    @override
    def write_data(self, plan: SavePlan, planner: SavePlanner) -> "Future[list[WriteResult]]":
        checksums: dict[str, str] = {}
        for part in self.parts:  # one after the other, so that memory holds one part at a time
            items = [item for item in plan.items if item.index.fqn.startswith(f"{part}/")]
            shards = {
                item.index.fqn[len(part) + 1 :]: _shard(item, planner)
                for item in items
                if not _is_empty_shard(item)
            }
            checksums |= self.writer.write(part, shards, self.suffix)
        return _completed([checksums])

    @override
    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        # DCP calls this in the coordinator only, after all processes have written
        checksums: list[Any] = list(itertools.chain(*results))
        self.writer.commit({name: digest for part in checksums for name, digest in sorted(part.items())})

    @classmethod
    @override
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:
        return checkpoint_id is None


class DCPReader(StorageReader):
    """Read tensors, every process the regions of its plan.

    Arguments:
        source: the tensors.
    """

    def __init__(self, source: Mapping[str, TensorSource]) -> None:
        self.source = source

    @override
    def reset(self, checkpoint_id: Any = None) -> None:
        pass

    @override
    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        # every tensor is one chunk, whichever files hold it
        chunks = {
            name: ChunkStorageMetadata(offsets=torch.Size([0] * len(stored.shape)), sizes=stored.shape)
            for name, stored in self.source.items()
        }
        return Metadata(
            {
                name: TensorStorageMetadata(TensorProperties(), chunk.sizes, [chunk])
                for name, chunk in chunks.items()
            }
        )

    @override
    def set_up_storage_reader(
        self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any
    ) -> None:
        pass

    @override
    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        return plan

    @override
    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        return plans

    @override
    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> "Future[None]":
        for item in plan.items:
            region = tuple(
                slice(begin, begin + length)
                for begin, length in zip(item.storage_offsets, item.lengths, strict=True)
            )
            target = planner.resolve_tensor(item).detach()
            target.copy_(self.source[item.storage_index.fqn][region])
            planner.commit_tensor(item, target)
        return _completed(None)

    @classmethod
    @override
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:
        return checkpoint_id is None


def _is_empty_shard(item: WriteItem) -> bool:
    """Return whether this process keeps no row of a tensor that has fewer rows than there are processes."""
    data = item.tensor_data
    assert data is not None
    return data.chunk.sizes.numel() == 0 and data.size.numel() > 0


def _shard(item: WriteItem, planner: SavePlanner) -> TensorShard:
    data, tensor = item.tensor_data, planner.resolve_data(item)
    assert data is not None
    assert isinstance(tensor, torch.Tensor)
    if data.chunk.sizes == data.size:
        return TensorShard(tensor)
    assert data.chunk.sizes[1:] == data.size[1:]
    return TensorShard(tensor, data.chunk.offsets[0], data.size[0])


def _completed(value: Any) -> "Future[Any]":
    future: Future[Any] = Future()
    future.set_result(value)
    return future
