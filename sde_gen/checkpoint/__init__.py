"""Checkpoints: store, manifest, writer, tensor shards, resuming."""

from sde_gen.checkpoint.matching import LoadReport, load_matching
from sde_gen.checkpoint.store import Checkpoint, StoredCheckpoint

__all__ = ["Checkpoint", "LoadReport", "StoredCheckpoint", "load_matching"]


def __dir__() -> list[str]:
    return sorted(__all__)
