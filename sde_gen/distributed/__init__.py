"""Distributed execution: strategies, launch, work queue, automatic batch size."""

from sde_gen.distributed.auto_batch import AutoBatchSize
from sde_gen.distributed.fsdp import FSDP
from sde_gen.distributed.strategy import DDP, SingleProcess, Strategy
from sde_gen.distributed.work_queue import PeerFailed, WorkQueue

__all__ = [
    "DDP",
    "FSDP",
    "AutoBatchSize",
    "PeerFailed",
    "SingleProcess",
    "Strategy",
    "WorkQueue",
]


def __dir__() -> list[str]:
    return sorted(__all__)
