"""Train a score network: ``python -m sde_gen.train sde=vp model=ncsnpp``."""

import warnings
from functools import partial
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor

from sde_gen.cli import build, console
from sde_gen.cli.app import check_counts, door
from sde_gen.cli.training import Bar, Begun, ConfigFile, Signals, check_data, check_meaning, name_run, report
from sde_gen.data import Splits
from sde_gen.data.codec import Codec, OutOfRange
from sde_gen.denoiser import Denoiser
from sde_gen.distributed.strategy import assembled
from sde_gen.noise import PerSample, sample_seeds
from sde_gen.sampler import Sampler
from sde_gen.solver.callbacks import StopOnNaN
from sde_gen.training import JSONL, Listener
from sde_gen.utils.images import attempt, save_samples
from sde_gen.utils.types import Shape


@door("train")
def main(config: DictConfig) -> None:
    """Train, or go on where the run folder's last checkpoint stands."""
    name_run(config)
    folder = Path(config.run)
    build.check(config)  # before the data, which may take long
    splits: Splits = build.make(config.data).load()
    sampler: Sampler = build.make(config.preview.sampler)
    check_counts(config.preview, "n")
    check_meaning(folder, config)
    check_data(folder, config, splits)
    with assembled(partial(build.make, config.team)) as team:
        with Signals() as stop, console.progress(shown=team.rank == 0) as bar:
            begun = Begun()
            listeners: list[Listener] = [
                begun,
                ConfigFile(config, folder),
                JSONL(folder / "log.jsonl"),
                Bar(bar),
            ]
            trainer = build.trainer(config, splits, listeners=listeners, stop=stop, team=team)
            shape = (config.preview.n, *splits.train.shape)
            labels = (
                torch.arange(config.preview.n) % splits.train.classes if build.conditional(config) else None
            )
            listeners.append(_Preview(sampler, shape, labels, trainer.codec, config.engine.seed, folder))
            listeners += [build.make(logger) for logger in config.loggers]
            finished = trainer.run()
        if team.rank == 0:
            report(trainer, folder, finished, begun.finished)


class _Preview(Listener):
    """Leave a picture of samples, always of the same noise; it never stops a training."""

    def __init__(
        self, sampler: Sampler, shape: Shape, labels: Tensor | None, codec: Codec, seed: int, folder: Path
    ) -> None:
        self.sampler, self.shape, self.labels, self.codec = sampler, shape, labels, codec
        self.seeds = sample_seeds(seed, shape[0])
        self.folder = folder / "previews"

    def preview(self, denoiser: Denoiser, images: int) -> None:
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
