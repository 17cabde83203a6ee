"""Training: loop, checkpoints, averages, watch-dog and logs."""

from sde_gen.engine.checkpoint import Checkpoint
from sde_gen.engine.listener import JSONL, Listener, TensorBoard
from sde_gen.engine.settings import Settings
from sde_gen.engine.trainer import Trainer

__all__ = ["JSONL", "Checkpoint", "Listener", "Settings", "TensorBoard", "Trainer"]
