"""Train a score network: ``python -m sde_gen.train sde=vp model=ncsnpp``."""

import warnings
from functools import partial
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor

from sde_gen import build, show
from sde_gen._typing import Shape
from sde_gen.codec import Codec
from sde_gen.data import Splits
from sde_gen.denoiser import Denoiser
from sde_gen.door import check_counts, door
from sde_gen.engine import JSONL, Listener
from sde_gen.engine.team import assembled
from sde_gen.hooks import StopOnNaN
from sde_gen.noise import PerSample, sample_seeds
from sde_gen.picture import save_samples
from sde_gen.sampler import Sampler
from sde_gen.training import Bar, ConfigFile, Signals, check_meaning, name_run, report


@door("train")
def main(config: DictConfig) -> None:
    """Train, or go on where the run folder's last checkpoint stands."""
    name_run(config)
    folder = Path(config.run)
    splits: Splits = instantiate(config.data).load()
    sampler: Sampler = instantiate(config.preview.sampler)
    check_counts(config.preview, "n")
    check_meaning(folder, config)
    with assembled(partial(instantiate, config.team)) as team:
        with Signals() as stop, show.progress(shown=team.rank == 0) as bar:
            listeners: list[Listener] = [ConfigFile(config, folder), JSONL(folder / "log.jsonl"), Bar(bar)]
            trainer = build.trainer(config, splits, listeners=listeners, stop=stop, team=team)
            shape = (config.preview.n, *splits.train.shape)
            labels = (
                torch.arange(config.preview.n) % splits.train.classes if build.conditional(config) else None
            )
            listeners.append(_Preview(sampler, shape, labels, trainer.codec, config.engine.seed, folder))
            listeners += [instantiate(logger) for logger in config.loggers]
            finished = trainer.run()
        if team.rank == 0:
            report(trainer, folder, finished)


class _Preview(Listener):
    """Leave a picture of samples, always of the same noise; it never stops a training."""

    def __init__(
        self, sampler: Sampler, shape: Shape, labels: Tensor | None, codec: Codec, seed: int, folder: Path
    ) -> None:
        self.sampler, self.shape, self.labels, self.codec = sampler, shape, labels, codec
        self.seeds = sample_seeds(seed, shape[0])
        self.folder = folder / "previews"

    def preview(self, denoiser: Denoiser, images: int) -> None:
        device = next(denoiser.parameters()).device
        bound = denoiser if self.labels is None else denoiser.bind(label=self.labels.to(device))
        try:
            x = self.sampler(
                bound, self.shape, noise=PerSample(self.seeds), hooks=[StopOnNaN()], device=device
            )
            self.folder.mkdir(parents=True, exist_ok=True)
            save_samples(self.codec.decode_image(x), self.folder / f"{images:012d}.png")
        except (ValueError, FloatingPointError) as error:
            warnings.warn(f"no picture of the preview at {images:,} images: {error}", stacklevel=2)


if __name__ == "__main__":
    main()
