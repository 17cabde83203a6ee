"""What the doors that train share: the run folder's name, its configuration, signals, and the progress bar."""

import json
import signal
from pathlib import Path
from types import FrameType

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.progress import Progress

from sde_gen import show
from sde_gen.engine import Listener, Trainer, checkpoint
from sde_gen.engine.changes import changes
from sde_gen.engine.listener import Record
from sde_gen.overrides import folder_name


def sweeping() -> bool:
    """Whether this is one job of several."""
    return bool(HydraConfig.get().mode == RunMode.MULTIRUN)


def name_run(config: DictConfig) -> None:
    """Give every job of a sweep a folder of its own, named by what is swept alone."""
    hydra = HydraConfig.get()
    told = {"run", *hydra.job.config.override_dirname.exclude_keys}
    overrides = {
        word.lstrip("+~").partition("=")[0].rpartition("@")[2].replace("/", "."): word
        for word in hydra.overrides.task
    }
    if "run" not in overrides:
        told |= {"data", "sde", "model"}  # the name says them
    name = folder_name(sorted(word for key, word in overrides.items() if key not in told))
    if sweeping() and name:
        with open_dict(config):
            config.run = f"{config.run}-{name}"


def check_meaning(folder: Path, config: DictConfig) -> None:
    """Refuse to go on with weights that were trained to mean something else."""
    for path in reversed(checkpoint.paths(folder / "checkpoints")):
        old = checkpoint.about(path).get("config")
        if not isinstance(old, dict):
            continue  # damaged, or of another origin: the trainer says so
        new = json.loads(json.dumps(OmegaConf.to_container(config, resolve=True)))
        kinds = ("sde", "parametrization", "codec")
        changed = [line for kind in kinds for line in changes(old.get(kind), new[kind], kind)]
        if changed:
            raise ValueError(
                f"{folder} holds a training with other settings ({'; '.join(changed)}); its weights would mean "
                "something else: choose another folder with run=..., or give the old settings"
            )
        return


def report(trainer: Trainer, folder: Path, finished: bool) -> None:
    """Say what was trained and where it lies; a signal ends a sweep, not one job of it."""
    parameters = sum(p.numel() for p in trainer.denoiser.net.parameters())
    show.table(
        f"training of {folder}"
        if finished
        else f"training of {folder}, stopped by a signal; the same command goes on",
        {
            "images": f"{trainer.images:,} of {trainer.settings.images:,}",
            "parameters": f"{parameters:,}",
            "checkpoints": str(folder / "checkpoints"),
            **({"previews": str(folder / "previews")} if (folder / "previews").is_dir() else {}),
            "log": str(folder / "log.jsonl"),
        },
    )
    if not finished and sweeping():
        raise SystemExit(128 + signal.SIGTERM)


class Signals:
    """Inside the block: true once SIGTERM or SIGINT arrived; a second SIGINT interrupts at once."""

    def __enter__(self) -> "Signals":
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
        """Whether a signal arrived."""
        return self.arrived


class ConfigFile(Listener):
    """Leave the configuration beside the checkpoints, once the training has the folder for itself."""

    def __init__(self, config: DictConfig, folder: Path) -> None:
        self.config, self.folder = config, folder

    def start(self, images: int, budget: int) -> None:
        """Write it."""
        if images < budget:  # else nothing is trained with it
            OmegaConf.save(self.config, self.folder / "config.yaml", resolve=True)


class Bar(Listener):
    """Show progress, loss and speed."""

    def __init__(self, bar: Progress) -> None:
        self.bar = bar

    def start(self, images: int, budget: int) -> None:
        """Show the bar."""
        self.task = self.bar.add_task("images", total=budget, completed=images, note="")

    def step(self, images: int) -> None:
        """Move it."""
        self.bar.update(self.task, completed=images)

    def log(self, record: Record) -> None:
        """Say loss and speed."""
        self.bar.update(
            self.task, note=f"loss {record['loss']:.4f}  {record['images_per_second']:.0f} images/s"
        )

    def saved(self, path: Path, images: int) -> None:
        """Say what is safe."""
        del path
        self.bar.update(self.task, description=f"images (saved at {images:,})")
