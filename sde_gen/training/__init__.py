"""Training: trainer, train step, batch loader, optimizer, EMA, callbacks, metrics."""

from sde_gen.training.callbacks import JSONL, Callback, MetricValue
from sde_gen.training.compile import Blocks, Compiler, Eager, Graphs
from sde_gen.training.config import TrainingConfig
from sde_gen.training.ema import EMA, EMAUpdater, HalfLifeEMA, WarmupEMA
from sde_gen.training.frozen import freeze
from sde_gen.training.loggers import CSV, TensorBoard, WandB
from sde_gen.training.lr_schedule import ConstantLR, CosineLR, LinearLR, LRSchedule
from sde_gen.training.metrics import Metrics
from sde_gen.training.nonfinite import NonFiniteGuard
from sde_gen.training.optimizer import Adam, AdamW, Optimizer
from sde_gen.training.precision import Auto, BFloat16, BFloat16Weights, Float32, Precision
from sde_gen.training.trainer import Trainer

__all__ = [
    "CSV",
    "EMA",
    "JSONL",
    "Adam",
    "AdamW",
    "Auto",
    "BFloat16",
    "BFloat16Weights",
    "Blocks",
    "Callback",
    "Compiler",
    "ConstantLR",
    "CosineLR",
    "EMAUpdater",
    "Eager",
    "Float32",
    "Graphs",
    "HalfLifeEMA",
    "LRSchedule",
    "LinearLR",
    "MetricValue",
    "Metrics",
    "NonFiniteGuard",
    "Optimizer",
    "Precision",
    "TensorBoard",
    "Trainer",
    "TrainingConfig",
    "WandB",
    "WarmupEMA",
    "freeze",
]


def __dir__() -> list[str]:
    return sorted(__all__)
