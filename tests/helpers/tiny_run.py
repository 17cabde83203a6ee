"""A training so small that a test can afford many of them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sde_gen.data import Dataset, HorizontalFlip, NoAugmentation, Splits
from sde_gen.data.codec import Affine
from sde_gen.data.codec import UniformCodec as DiscreteData
from sde_gen.data.conditioning import Label, Unconditional
from sde_gen.denoiser import NetworkDenoiser
from sde_gen.denoiser.parametrization import Eps
from sde_gen.distributed.storage import TensorSource
from sde_gen.distributed.strategy import SingleProcess, Strategy
from sde_gen.objective import DSM
from sde_gen.objective.time_sampler import Stratified, UniformTime
from sde_gen.objective.weighting import Simple
from sde_gen.sde import VP
from sde_gen.training import Trainer, TrainingConfig
from sde_gen.training.autotune import Chooser, FixedExecution
from sde_gen.training.ema import WarmupEMA
from sde_gen.training.lr_schedule import LinearLR
from sde_gen.training.optimizer import Adam
from sde_gen.training.precision import Float32


class Net(nn.Module):
    """Two layers with dropout and a buffer, for vectors of two numbers and three classes, the fourth the null class."""

    def __init__(self, width: int = 8, dropout: float = 0.2, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.first = nn.Linear(3, width, dtype=dtype)
        self.classes = nn.Embedding(4, width, dtype=dtype)
        self.drop = nn.Dropout(dropout)
        self.last = nn.Linear(width, 2, dtype=dtype)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x, c_noise, *, label=None):
        if self.training:
            self.calls += 1
        h = self.first(torch.cat([x, c_noise.unsqueeze(1) / 1000], 1))
        if label is not None:
            h = h + self.classes(label)
        return self.last(self.drop(torch.tanh(h)))


def points(count: int = 40, seed: int = 0) -> Dataset:
    """Labeled points in the plane."""
    values = torch.randn(count, 2, generator=torch.Generator().manual_seed(seed))
    return Dataset(values=values, labels=torch.arange(count) % 3, levels=None, classes=3)


def trainer(
    folder: Path,
    *,
    settings: dict[str, Any] | None = None,
    net: nn.Module | None = None,
    init: int = 0,
    **more: Any,
) -> Trainer:
    """Build a training in a folder; ``init`` seeds the first weights, ``more`` replaces parts."""
    if net is None:
        with torch.random.fork_rng():
            torch.manual_seed(init)
            net = Net()
    numbers = {
        "images": 160,
        "batch_size": 8,
        "log_every": 16,
        "checkpoint_every": 48,
        "preview_every": 80,
        "validate": 16,
    }
    sde = VP()
    parts: dict[str, Any] = {
        "denoiser": NetworkDenoiser(net=net, sde=sde, parametrization=Eps()),
        "objective": DSM(time_sampler=Stratified(distribution=UniformTime()), weighting=Simple()),
        "train": points(),
        "held_out": points(16, seed=1),
        "codec": Affine(),
        "augmentation": NoAugmentation(),
        "optimizer": Adam(lr=1e-2),
        "lr_schedule": LinearLR(warmup=32),
        "ema": WarmupEMA(rate=0.9),
        "precision": Float32(),
        "settings": TrainingConfig(**{**numbers, **(settings or {})}),
        "folder": folder,
        "about": {"config": {"name": "tiny"}},
        "conditioning": Label(classes=3, dropout=0.0),
    }
    return Trainer(**{**parts, **more})


class Convolution(nn.Module):
    """One layer for images of three channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.drop = nn.Dropout(0.2)

    def forward(self, x, c_noise, *, label=None):
        return self.drop(self.conv(x)) * (1 if label is None else 1 + label[:, None, None, None] / 10)


def image_trainer(
    folder: Path,
    splits: Splits,
    strategy: Strategy | None = None,
    chooser: Chooser = FixedExecution(),  # noqa: B008, frozen
    stop: Callable[[], bool] = lambda: False,
    **settings: Any,
) -> Trainer:
    """Build a training on images of 256 levels, which are mirrored and dequantized at random."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Convolution()
    return trainer(
        folder,
        settings=settings,
        net=net,
        train=splits.train,
        held_out=splits.test,
        codec=DiscreteData(levels=256),
        augmentation=HorizontalFlip(),
        strategy=strategy or SingleProcess(),
        chooser=chooser,
        stop=stop,
        conditioning=Label(classes=splits.train.classes, dropout=0.1)
        if splits.train.classes
        else Unconditional(),
    )


def weights(training: Trainer) -> dict[str, torch.Tensor]:
    """Everything that training has changed: weights, their average and the optimizer's state."""
    state = training.adam.state_dict()["state"]
    return {
        **{f"net.{name}": value.clone() for name, value in training.denoiser.net.state_dict().items()},
        **{f"ema.{name}": value.clone() for name, value in training.ema_model.net.state_dict().items()},
        **{f"adam.{i}.{name}": value.clone() for i, entry in state.items() for name, value in entry.items()},
    }


def read(part: Mapping[str, TensorSource]) -> dict[str, torch.Tensor]:
    """All tensors of a part of a checkpoint on the disk."""
    return {name: stored[()] for name, stored in part.items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Return whether all tensors are bit-identical."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
