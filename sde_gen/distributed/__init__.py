"""Distributed execution: strategies, launch, work queue, automatic batch size."""

from sde_gen.distributed.auto_batch import Given, Made, Room
from sde_gen.distributed.fsdp import Sharded
from sde_gen.distributed.strategy import Alone, Replicated, Team
from sde_gen.distributed.work_queue import Crew, Deserted

__all__ = ["Alone", "Crew", "Deserted", "Given", "Made", "Replicated", "Room", "Sharded", "Team"]
