"""Train a score network: ``python -m sde_gen.train sde=vp model=ncsnpp``."""

import warnings
from functools import partial
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor

from sde_gen.cli import build, console, threads
from sde_gen.cli.app import door, require_int
from sde_gen.cli.training import (
    Begun,
    GracefulShutdown,
    ProgressCallback,
    SaveConfig,
    check_compatible,
    check_data,
    report,
    set_run_dir,
)
from sde_gen.data import Splits
from sde_gen.data.codec import Codec, OutOfRange
from sde_gen.denoiser import Denoiser
from sde_gen.distributed.strategy import init_distributed
from sde_gen.noise import PerSample, spawn_seeds
from sde_gen.sampler import Sampler
from sde_gen.solver.callbacks import StopOnNaN
from sde_gen.training import JSONL, Callback
from sde_gen.utils.images import attempt, save_samples
from sde_gen.utils.types import Shape


@door("train")
def main(config: DictConfig) -> None:
    """Train, or go on where the run folder's last checkpoint stands."""
    set_run_dir(config)
    folder = Path(config.run)
    build.check(config)  # before the data, which may take long
    splits: Splits = build.make(config.data).load()
    sampler: Sampler = build.make(config.preview.sampler)
    require_int(config.preview, "n")
    check_compatible(folder, config)
    check_data(folder, config, splits)
    chosen = threads.of_training(config, build.device(config.device))
    with init_distributed(partial(build.make, config.distributed)) as strategy:
        with GracefulShutdown() as stop, console.progress(shown=strategy.rank == 0) as bar:
            begun = Begun()
            callbacks: list[Callback] = [
                begun,
                SaveConfig(config, folder),
                JSONL(folder / "log.jsonl"),
                ProgressCallback(bar),
            ]
            trainer = build.trainer(
                config, splits, callbacks=callbacks, stop=stop, strategy=strategy, chooser=chosen.chooser
            )
            shape = (config.preview.n, *splits.train.shape)
            labels = (
                torch.arange(config.preview.n) % splits.train.classes if build.conditional(config) else None
            )
            callbacks.append(_Preview(sampler, shape, labels, trainer.codec, config.engine.seed, folder))
            callbacks += [build.make(logger) for logger in config.loggers]
            finished = trainer.run()
        if strategy.rank == 0:
            report(trainer, folder, finished, begun.finished, chosen)


class _Preview(Callback):
    """Leave a picture of samples, always of the same noise; it never stops a training."""

    def __init__(
        self, sampler: Sampler, shape: Shape, labels: Tensor | None, codec: Codec, seed: int, folder: Path
    ) -> None:
        self.sampler, self.shape, self.labels, self.codec = sampler, shape, labels, codec
        self.seeds = spawn_seeds(seed, shape[0])
        self.folder = folder / "previews"

    def on_preview(self, denoiser: Denoiser, images: int) -> None:
        path = self.folder / f"{images:012d}.png"
        attempt(partial(self._save, denoiser, path), path)

    def _save(self, denoiser: Denoiser, path: Path) -> None:
        device = next(denoiser.parameters()).device
        bound = denoiser if self.labels is None else denoiser.bind(label=self.labels.to(device))
        x = self.sampler(bound, self.shape, noise=PerSample(self.seeds), hooks=[StopOnNaN()], device=device)
        sigma = float(bound.sde.sigma(self.sampler.grid(bound.sde, self.sampler.steps)[-1]))
        outside = OutOfRange.of(x, self.codec, sigma=sigma)
        if outside is not None and outside.notable:
            warnings.warn(f"the preview {path.name} has {outside.advice}", stacklevel=2)
        self.folder.mkdir(parents=True, exist_ok=True)
        save_samples(self.codec.decode_image(x), path)
