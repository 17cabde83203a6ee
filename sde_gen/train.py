"""Train a score network: ``python -m sde_gen.train sde=vp model=ncsnpp``."""

import signal
import warnings
from pathlib import Path
from types import FrameType

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.progress import Progress

from sde_gen import build, show
from sde_gen._typing import Shape
from sde_gen.codec import Codec
from sde_gen.data import Splits
from sde_gen.denoiser import Denoiser
from sde_gen.door import door
from sde_gen.engine import JSONL, Listener
from sde_gen.engine.listener import Record
from sde_gen.noise import PerSample, sample_seeds
from sde_gen.picture import save_samples
from sde_gen.sampler import Sampler


@door("train")
def main(config: DictConfig) -> None:
    """Train, or go on where the run folder's last checkpoint stands."""
    _name_run(config)
    folder = Path(config.run)
    splits: Splits = instantiate(config.data).load()
    sampler: Sampler = instantiate(config.preview.sampler)
    with _Signals() as stop, show.progress() as bar:
        listeners: list[Listener] = [JSONL(folder / "log.jsonl"), _Bar(bar)]
        trainer = build.trainer(config, splits, listeners=listeners, stop=stop)
        listeners.append(
            _Preview(
                sampler, (config.preview.n, *splits.train.shape), trainer.codec, config.engine.seed, folder
            )
        )
        listeners += [instantiate(logger) for logger in config.loggers]
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(config, folder / "config.yaml", resolve=True)
        finished = trainer.run()
    parameters = sum(p.numel() for p in trainer.denoiser.net.parameters())
    show.table(
        f"training of {folder}"
        if finished
        else f"training of {folder}, stopped by a signal; the same command goes on",
        {
            "images": f"{trainer.images:,} of {config.engine.images:,}",
            "parameters": f"{parameters:,}",
            "checkpoints": str(folder / "checkpoints"),
            "previews": str(folder / "previews"),
            "log": str(folder / "log.jsonl"),
        },
    )


def _name_run(config: DictConfig) -> None:
    """Give every job of a sweep a folder of its own."""
    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN and hydra.job.override_dirname:
        with open_dict(config):
            config.run = f"{config.run}-{hydra.job.override_dirname.replace('/', '.')}"


class _Signals:
    """Inside the block: true once SIGTERM or SIGINT arrived; a second SIGINT interrupts at once."""

    def __enter__(self) -> "_Signals":
        self.arrived = False
        self.before = {
            number: signal.signal(number, self._arrive) for number in (signal.SIGTERM, signal.SIGINT)
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _arrive(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.arrived and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.arrived = True

    def __call__(self) -> bool:
        return self.arrived


class _Bar(Listener):
    """Show progress, loss and speed."""

    def __init__(self, bar: Progress) -> None:
        self.bar = bar

    def start(self, images: int, budget: int) -> None:
        self.task = self.bar.add_task("images", total=budget, completed=images, note="")

    def step(self, images: int) -> None:
        self.bar.update(self.task, completed=images)

    def log(self, record: Record) -> None:
        self.bar.update(
            self.task, note=f"loss {record['loss']:.4f}  {record['images_per_second']:.0f} images/s"
        )

    def saved(self, path: Path, images: int) -> None:
        del path
        self.bar.update(self.task, description=f"images (saved at {images:,})")


class _Preview(Listener):
    """Leave a picture of samples, always of the same noise."""

    def __init__(self, sampler: Sampler, shape: Shape, codec: Codec, seed: int, folder: Path) -> None:
        self.sampler, self.shape, self.codec = sampler, shape, codec
        self.seeds = sample_seeds(seed, shape[0])
        self.folder = folder / "previews"

    def preview(self, denoiser: Denoiser, images: int) -> None:
        device = next(denoiser.parameters()).device
        x = self.sampler(denoiser, self.shape, noise=PerSample(self.seeds), device=device)
        if not bool(x.isfinite().all()):
            warnings.warn(
                f"the preview at {images:,} images is not finite; no picture was made", stacklevel=2
            )
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        save_samples(self.codec.decode_image(x), self.folder / f"{images:012d}.png")


if __name__ == "__main__":
    main()
