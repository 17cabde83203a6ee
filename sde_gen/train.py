"""Train a score network: ``python -m sde_gen.train sde=vp model=ncsnpp``."""

import json
import signal
import warnings
from pathlib import Path
from types import FrameType

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.progress import Progress
from torch import Tensor

from sde_gen import build, show
from sde_gen._typing import Shape
from sde_gen.codec import Codec
from sde_gen.data import Splits
from sde_gen.denoiser import Denoiser
from sde_gen.door import check_counts, door
from sde_gen.engine import JSONL, Listener, checkpoint
from sde_gen.engine.changes import changes
from sde_gen.engine.listener import Record
from sde_gen.hooks import StopOnNaN
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
    check_counts(config.preview, "n")
    _check_meaning(folder, config)
    with _Signals() as stop, show.progress() as bar:
        listeners: list[Listener] = [_Config(config, folder), JSONL(folder / "log.jsonl"), _Bar(bar)]
        trainer = build.trainer(config, splits, listeners=listeners, stop=stop)
        shape = (config.preview.n, *splits.train.shape)
        labels = torch.arange(config.preview.n) % splits.train.classes if build.conditional(config) else None
        listeners.append(_Preview(sampler, shape, labels, trainer.codec, config.engine.seed, folder))
        listeners += [instantiate(logger) for logger in config.loggers]
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
    if not finished and _sweeping():
        raise SystemExit(128 + signal.SIGTERM)  # a signal ends the sweep, not one job of it


def _sweeping() -> bool:
    return bool(HydraConfig.get().mode == RunMode.MULTIRUN)


def _name_run(config: DictConfig) -> None:
    """Give every job of a sweep a folder of its own."""
    overrides = list(HydraConfig.get().overrides.task)
    if any(
        word.startswith("run=") for word in overrides
    ):  # then the name says nothing of data, sde and model
        name = ",".join(sorted(word for word in overrides if not word.startswith("run=")))
    else:
        name = HydraConfig.get().job.override_dirname
    if _sweeping() and name:
        with open_dict(config):
            config.run = f"{config.run}-{name.replace('/', '.')}"


def _check_meaning(folder: Path, config: DictConfig) -> None:
    """Refuse to go on with weights that were trained to mean something else."""
    for path in checkpoint.paths(folder / "checkpoints")[-1:]:
        try:
            old = json.loads((path / "checkpoint.json").read_bytes())["about"]["config"]
        except (OSError, ValueError, KeyError):
            return  # damaged, or of another origin: the trainer says so
        new = json.loads(json.dumps(OmegaConf.to_container(config, resolve=True)))
        kinds = ("sde", "parametrization", "codec")
        changed = [line for kind in kinds for line in changes(old.get(kind), new[kind], kind)]
        if changed:
            raise ValueError(
                f"{folder} holds a training with other settings ({'; '.join(changed)}); its weights would mean "
                "something else: choose another folder with run=..., or give the old settings"
            )


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


class _Config(Listener):
    """Leave the configuration beside the checkpoints, once the training has the folder for itself."""

    def __init__(self, config: DictConfig, folder: Path) -> None:
        self.config, self.folder = config, folder

    def start(self, images: int, budget: int) -> None:
        if images < budget:  # else nothing is trained with it
            OmegaConf.save(self.config, self.folder / "config.yaml", resolve=True)


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
