"""Checkpoints: store, manifest, writer, tensor shards, resuming."""

from sde_gen.checkpoint.store import Checkpoint, Saved
from sde_gen.checkpoint.transfer import Transfer, transfer

__all__ = ["Checkpoint", "Saved", "Transfer", "transfer"]


def __dir__() -> list[str]:
    return sorted(__all__)
