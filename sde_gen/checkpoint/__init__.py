"""Checkpoints: store, manifest, writer, tensor shards, resuming."""

from sde_gen.checkpoint.store import Checkpoint, Saved

__all__ = ["Checkpoint", "Saved"]


def __dir__() -> list[str]:
    return sorted(__all__)
