"""The training loop."""

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sde_gen.codec import Codec
from sde_gen.data import Augmentation, Batches, Dataset
from sde_gen.denoiser import NetworkDenoiser
from sde_gen.engine import checkpoint, ema, watchdog
from sde_gen.engine.checkpoint import Checkpoint
from sde_gen.engine.ema import EMA
from sde_gen.engine.listener import Listener
from sde_gen.engine.lr_schedule import LRSchedule
from sde_gen.engine.meter import Meter
from sde_gen.engine.optimizer import Optimizer
from sde_gen.engine.precision import Precision
from sde_gen.engine.state import from_tensors, load_into, to_tensors
from sde_gen.noise import IID
from sde_gen.objective import DSM


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Numbers of a training; everything that counts is counted in images.

    Arguments:
        images: budget of the whole training.
        batch_size: images of one step, over all micro-batches.
        accumulation: micro-batches of one step.
        grad_clip: largest norm of the gradient.
        seed: everything random follows from (seed, step, rank).
        log_every: images between two records of the log.
        preview_every: images between two previews.
        checkpoint_every: images between two checkpoints.
        keep: how many of the newest checkpoints stay; the best stays too.
        validate: held-out images whose loss is measured at every checkpoint; 0 for none.
        channels_last: memory format of image networks.
    """

    images: int = 300_000
    batch_size: int = 64
    accumulation: int = 1
    grad_clip: float = 1.0
    seed: int = 0
    log_every: int = 10_000
    preview_every: int = 100_000
    checkpoint_every: int = 50_000
    keep: int = 2
    validate: int = 256
    channels_last: bool = True

    def __post_init__(self) -> None:
        """Check the constructor's arguments."""
        for name in ("images", "batch_size", "accumulation", "log_every", "preview_every", "checkpoint_every", "keep"):
            if getattr(self, name) < 1:
                raise ValueError(f"engine.{name}={getattr(self, name)} must be at least 1")
        if self.batch_size % self.accumulation:
            raise ValueError(f"batch_size={self.batch_size} is not a multiple of accumulation={self.accumulation}")
        if not self.grad_clip > 0:
            raise ValueError(f"grad_clip={self.grad_clip} must be positive; give a large number for no clipping")
        if self.validate < 0 or self.seed < 0:
            raise ValueError(f"validate={self.validate}, seed={self.seed}: neither may be negative")


@dataclass(kw_only=True)
class Trainer:
    """Train a network by a pure function of (seed, step): killed and restarted, it gives the same weights to the bit.

    Arguments:
        denoiser: what is trained, on the device already.
        objective: its loss.
        train: the training split.
        held_out: the split whose loss is measured.
        codec: from data to model space; levels are dequantised anew at every step.
        augmentation: random change of the data.
        optimizer: settings of the optimiser.
        lr_schedule: factor of its learning rate.
        ema: rule of the averaged weights.
        precision: number format of the network.
        settings: numbers.
        folder: the run folder.
        about: stored in every checkpoint: configuration, facts of the data, versions.
        conditional: whether the network is given the labels.
        listeners: who is told.
        stop: asked after every step; true saves and ends.
    """

    denoiser: NetworkDenoiser
    objective: DSM
    train: Dataset
    held_out: Dataset
    codec: Codec
    augmentation: Augmentation
    optimizer: Optimizer
    lr_schedule: LRSchedule
    ema: EMA
    precision: Precision
    settings: Settings
    folder: Path
    about: dict[str, Any]
    conditional: bool = False
    listeners: Sequence[Listener] = ()
    stop: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        """Put everything on the device and build what has state."""
        self.device = next(self.denoiser.parameters()).device
        if self.settings.channels_last and len(self.train.shape) == 3:
            self.denoiser.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.denoiser).eval().requires_grad_(False)
        self.adam = self.optimizer.build(self.denoiser.net.parameters())
        self.train, self.held_out = self.train.to(self.device), self.held_out.to(self.device)
        self.batches = Batches(size=len(self.train), batch_size=self.settings.batch_size, seed=self.settings.seed)
        self.meter = Meter(self.denoiser.sde, self.device)
        self.images = self.saved_at = 0

    def run(self) -> bool:
        """Train from the last checkpoint on.

        Returns:
            Whether the budget was reached; false if it was asked to stop.
        """
        self._resume()
        self._tell(lambda listener: listener.start(self.images, self.settings.images))
        self.denoiser.train()
        self.meter.reset()
        while self.images < self.settings.images:
            self._step(self.images // self.settings.batch_size)
            self._after_step()
            if self.stop():
                break
        if self.saved_at != self.images:
            self._save()
        return self.images >= self.settings.images

    def _step(self, step: int) -> None:
        begin, factor = time.perf_counter(), 1 / self.settings.accumulation
        generator = torch.Generator(self.device).manual_seed(_seed(self.settings.seed, step, 0))
        seen = []
        for micro, indices in enumerate(self.batches.indices(step).chunk(self.settings.accumulation)):
            x0, cond = self._batch(self.train, indices.to(self.device), generator)
            loss = self._loss(x0, cond, IID(generator), dropout_seed=_seed(self.settings.seed, step, 1 + micro))
            (loss.per_sample.mean() * factor).backward()
            self.meter.batch(loss)
            seen.append((x0, loss))
        norm = torch.nn.utils.clip_grad_norm_(self.denoiser.net.parameters(), self.settings.grad_clip)
        grad_norm = float(norm)  # waits for the backward pass, so the time up to here is that of the passes
        inside = time.perf_counter() - begin
        if not math.isfinite(grad_norm):
            watchdog.bark(self.folder, self.denoiser.sde, step=step, seed=self.settings.seed, batches=seen)
        self.images += self.settings.batch_size
        for group in self.adam.param_groups:
            group["lr"] = self.optimizer.lr * self.lr_schedule(self.images, self.settings.images)
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        decay = self.ema.decay(step + 1, self.images, self.settings.batch_size)
        ema.update(self.average.net, self.denoiser.net, decay)
        self.meter.step(grad_norm, inside)

    def _loss(self, x0: Tensor, cond: dict[str, Tensor], noise: IID, *, dropout_seed: int) -> Any:
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices), self.precision.context(self.device):
            torch.manual_seed(dropout_seed)
            return self.objective(self.denoiser, x0, noise=noise, **cond)

    def _batch(self, data: Dataset, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        values = self.augmentation(data.values[indices], generator)
        x0 = self.codec.encode(values, IID(generator))
        if self.settings.channels_last and x0.ndim == 4:
            x0 = x0.contiguous(memory_format=torch.channels_last)
        return x0, {"label": data.labels[indices]} if self.conditional and data.labels is not None else {}

    def _after_step(self) -> None:
        self._tell(lambda listener: listener.step(self.images))
        if self._due(self.settings.log_every):
            record = {"images": self.images, "lr": self.adam.param_groups[0]["lr"], **self.meter.record()}
            left = self.settings.images - self.images
            record["seconds_left"] = left / float(record["images_per_second"])
            self._tell(lambda listener: listener.log(record))
            self.meter.reset()
        if self._due(self.settings.preview_every):
            self._tell(lambda listener: listener.preview(self.average, self.images))
        if self._due(self.settings.checkpoint_every):
            self._save()

    def _due(self, every: int) -> bool:
        before = self.images - self.settings.batch_size
        return self.images // every > before // every or self.images >= self.settings.images

    def _tell(self, what: Callable[[Listener], None]) -> None:
        for listener in self.listeners:
            what(listener)

    @torch.no_grad()
    def validation(self) -> float | None:
        """Loss of the averaged weights on the held-out images, with the same noise every time."""
        count = min(self.settings.validate, len(self.held_out))
        if count == 0:
            return None
        generator = torch.Generator(self.device).manual_seed(_seed(self.settings.seed, 2**32, 0))
        losses = []
        for indices in torch.arange(count, device=self.device).split(self.settings.batch_size // self.settings.accumulation):
            x0, cond = self._batch(self.held_out, indices, generator)
            with self.precision.context(self.device):
                losses.append(self.objective(self.average, x0, noise=IID(generator), **cond).per_sample)
        return float(torch.cat(losses).double().mean())

    def _save(self) -> None:
        validation = self.validation()
        saved = Checkpoint(
            images=self.images,
            net=dict(self.denoiser.net.state_dict()),
            ema=dict(self.average.net.state_dict()),
            optimizer=to_tensors(self.adam),
            about={**self.about, "validation": validation},
        )
        path = checkpoint.save(self.folder / "checkpoints", saved)
        checkpoint.prune(self.folder / "checkpoints", keep=self.settings.keep)
        self.saved_at = self.images
        self._tell(lambda listener: listener.saved(path, self.images))

    def _resume(self) -> None:
        found = checkpoint.latest(self.folder / "checkpoints")
        if found is None:
            return
        if found.images % self.settings.batch_size:
            raise ValueError(
                f"the checkpoint in {self.folder} has seen {found.images:,} images, which is no multiple of "
                f"batch_size={self.settings.batch_size}; go on with its own batch size or choose another run folder"
            )
        load_into(self.denoiser.net, found.net, what=f"the checkpoint in {self.folder}")
        load_into(self.average.net, found.ema, what=f"the checkpoint in {self.folder}")
        from_tensors(self.adam, found.optimizer)
        self.images = self.saved_at = found.images


def _seed(seed: int, step: int, stream: int) -> int:
    return int(np.random.SeedSequence([seed, step, stream]).generate_state(1, np.uint64)[0])
