"""Training: trainer, train step, batch loader, optimizer, EMA, callbacks, metrics."""

from sde_gen.training.callbacks import JSONL, Listener, TensorBoard
from sde_gen.training.compile import Blocks, Compiler, Eager, Graphs
from sde_gen.training.config import Settings
from sde_gen.training.ema import EMA, Follower, HalfLife, Ramp
from sde_gen.training.lr_schedule import Constant, Cosine, Linear, LRSchedule
from sde_gen.training.metrics import Meter
from sde_gen.training.nonfinite import Watchdog
from sde_gen.training.optimizer import Adam, AdamW, Optimizer
from sde_gen.training.precision import Auto, BFloat16, Float32, Precision
from sde_gen.training.trainer import Trainer

__all__ = [
    "EMA",
    "JSONL",
    "Adam",
    "AdamW",
    "Auto",
    "BFloat16",
    "Blocks",
    "Compiler",
    "Constant",
    "Cosine",
    "Eager",
    "Float32",
    "Follower",
    "Graphs",
    "HalfLife",
    "LRSchedule",
    "Linear",
    "Listener",
    "Meter",
    "Optimizer",
    "Precision",
    "Ramp",
    "Settings",
    "TensorBoard",
    "Trainer",
    "Watchdog",
]
