"""Training from a configuration: run folder, compatibility of checkpoints, signals and the progress bar."""

import json
import os
import re
import signal
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.progress import Progress

from sde_gen.checkpoint import store as checkpoint
from sde_gen.checkpoint.manifest import diff_config
from sde_gen.cli import build, console, reports
from sde_gen.cli.app import cli_overrides
from sde_gen.cli.config_files import printable
from sde_gen.cli.initialization import initial_weights
from sde_gen.cli.loggers import check_loggers, make_loggers, pop_loggers
from sde_gen.cli.overrides import folder_name
from sde_gen.cli.renamed import upgrade, upgrade_about
from sde_gen.cli.threads import ThreadChoice, of_training
from sde_gen.data import DataIdentity, Splits
from sde_gen.distributed.strategy import init_distributed
from sde_gen.training import JSONL, Callback, Trainer
from sde_gen.training.callbacks import Record
from sde_gen.utils import atomic


def sweeping() -> bool:
    """Return whether this is one job of a sweep."""
    return bool(HydraConfig.get().mode == RunMode.MULTIRUN)


def _named() -> bool:
    """Return whether the user names the run folder."""
    return any(word.startswith("run=") for word in HydraConfig.get().overrides.task)


def _name_data(config: DictConfig) -> None:
    """Name the run folder by the data on the command line unless the user names it."""
    words = cli_overrides()
    places = sorted(build.source(config.data).places | {"name"})
    named = [config.data[key] for key in places if f"data.{key}" in words and key not in ("cache", "index")]
    parts = [
        "-".join(
            Path(os.path.abspath(place)).parts[-2:]
            if not Path(place).is_dir()
            else [Path(place).resolve().name]
        )
        for place in named
        if isinstance(place, str)
    ]
    if parts and not _named():
        config.run = "-".join([config.run, *(re.sub(r"[^\w.-]+", "_", part) for part in parts)])


def _name_init(config: DictConfig) -> None:
    """Name the run folder by the weights that it begins from unless the user names it."""
    if config.get("init") is not None and not _named():
        config.run += f"-from-{re.sub(r'[^A-Za-z0-9_.-]+', '_', Path(os.path.abspath(config.init)).stem)}"


def set_run_dir(config: DictConfig) -> None:
    """Name the run folder by data on the disk, and in a sweep by the settings that are swept."""
    _name_data(config)
    _name_init(config)
    hydra = HydraConfig.get()
    excluded = {"run", *hydra.job.config.override_dirname.exclude_keys}
    overrides = {
        word.lstrip("+~").partition("=")[0].rpartition("@")[2].replace("/", "."): word
        for word in hydra.overrides.task
    }
    if "run" not in overrides:
        excluded |= {"data", "sde", "model"}  # parts of the default name
    name = folder_name(sorted(word for key, word in overrides.items() if key not in excluded))
    if sweeping() and name:
        with open_dict(config):
            config.run = f"{config.run}-{name}"


def check_compatible(folder: Path, config: DictConfig) -> None:
    """Refuse to continue with weights of another prediction type, process or codec."""
    for path in reversed(checkpoint.paths(folder / "checkpoints")):
        old = upgrade(checkpoint.about(path).get("config"))
        if not isinstance(old, dict):
            continue  # damaged, or of another origin: the trainer reports it
        new = json.loads(json.dumps(OmegaConf.to_container(config, resolve=True)))
        kinds = ("sde", "parametrization", "codec", "adapter")
        changed = [
            line
            for kind in kinds
            if kind in old or kind != "adapter"  # which an earlier version did not have
            for line in diff_config(old.get(kind), new.get(kind), kind)
        ]
        if changed:
            raise ValueError(
                f"{folder} holds a training with other settings ({'; '.join(changed)}); its weights would have "
                "another prediction: choose another folder with run=..., or give the old settings"
            )
        return


def check_data(folder: Path, config: DictConfig, splits: Splits) -> list[str]:
    """Refuse a training that would train nothing, or train a network on other classes.

    Returns:
        The settings changed since a training in the folder that is finished, on which its result does not depend.

    Raises:
        ValueError: the training in the folder has reached its budget with other settings or data; the data have other
            classes now; or the folder, which the user did not name, holds a training on other data.
    """
    for path in reversed(checkpoint.paths(folder / "checkpoints")):
        about = checkpoint.about(path)
        if not isinstance(about.get("config"), dict):
            continue  # damaged, or of another origin: the trainer reports it
        about = upgrade_about(about)
        old, now = DataIdentity.read(about.get("data")), build.identity(config, splits)
        changed = old.differences(now)
        unused: list[str] = []
        if int(path.name) >= config.engine.images:
            unused = _check_finished(folder, config, about["config"], changed, int(path.name))
        data_spec = about.get("facts")
        conditional = "label" in build.conditioning(config, build.data_spec(splits)).names
        if conditional and isinstance(data_spec, dict):
            build.check_classes(splits, int(data_spec.get("classes", 0)), old.class_names, folder)
        if changed and old.places != now.places and not _named():
            raise ValueError(
                f"{folder} holds a training on other data ({_listing(old.places)}, now {_listing(now.places)}: "
                f"{'; '.join(changed)}): give this training a separate folder with run=..., or run={folder} to go on "
                "there with these data"
            )
        return unused
    return []


def _check_finished(
    folder: Path, config: DictConfig, old: dict[str, Any], changed: list[str], images: int
) -> list[str]:
    """Raise ValueError where the command changes a finished training; return the changes that it does not use."""
    new = _known(json.loads(json.dumps(OmegaConf.to_container(config, resolve=True))), old)
    if not changed:  # then it does not matter how they were found
        old, new = (
            {key: value for key, value in settings.items() if key != "data"} for settings in (old, new)
        )
    every = diff_config(old, new)
    lines = [line for line in every if not line.startswith(NOT_TRAINING)]
    if lines or changed:
        raise ValueError(
            f"the training in {folder} is finished: it has seen {images:,} images, and engine.images is "
            f"{config.engine.images:,}. Nothing would be trained with the changed settings "
            f"({'; '.join([*changed, *lines])}): give another folder with run=... for a new training, or a larger "
            "engine.images to go on with this one"
        )
    return [line for line in every if not line.startswith(("run:", "engine.images:"))]


def _known(new: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
    """Select the settings that an old configuration has too; an earlier version had fewer."""
    return {
        key: _known(value, old[key]) if isinstance(value, dict) and isinstance(old[key], dict) else value
        for key, value in new.items()
        if key in old
    }


NOT_TRAINING = (
    *("run", "device", "loggers", "preview", "quality", "compile", "distributed", "recipe", "threads"),
    *(
        f"engine.{name}"
        for name in (
            "images",
            "log_every",
            "preview_every",
            "checkpoint_every",
            "metrics_every",
            "keep",
            "validate",
            "accumulation",
        )
    ),
)
"""Prefixes of settings that do not change a finished training."""


def _listing(places: Mapping[str, str]) -> str:
    return ", ".join(f"data.{key}={place}" for key, place in places.items()) or "not on the disk"


class Begun(Callback):
    """Remember where a training began."""

    finished = False
    """True if the training was finished before."""

    def on_train_start(self, images: int, budget: int) -> None:
        """Compare the images seen with the budget."""
        self.finished = images >= budget


def fit(
    config: DictConfig,
    previews: Callable[[DictConfig, Trainer], Sequence[Callback]],
    quality: Callable[[DictConfig, Trainer], Any] = lambda config, trainer: None,
) -> None:
    """Train, or continue from the last checkpoint of the run folder.

    Arguments:
        config: the composed configuration.
        previews: builds further callbacks, which need the trainer.
        quality: builds the metrics of samples, which need the trainer; None for no metrics.
    """
    set_run_dir(config)
    folder = Path(config.run)
    build.check(config)  # before the data, which may take long
    loggers = pop_loggers(config)
    check_loggers(loggers)
    splits: Splits = build.make(config.data).load()
    check_compatible(folder, config)
    unused = check_data(folder, config, splits)
    initial = initial_weights(config, folder)
    chosen = of_training(config, build.device(config.device))
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
                config,
                splits,
                model=initial.model(build.model, shown=strategy.rank == 0),
                init=initial.record,
                callbacks=callbacks,
                stop=stop,
                strategy=strategy,
                chooser=chosen.chooser,
                command=reports.command_line("train"),
            )
            callbacks += previews(config, trainer)
            trainer.quality = quality(config, trainer)
            callbacks += make_loggers(loggers)
            callbacks.append(reports.WhileTraining(folder))  # last: it shows what the others have saved
            finished = trainer.run()
        if strategy.rank == 0:
            report(trainer, folder, finished, begun.finished, chosen)
        if strategy.rank == 0 and begun.finished and unused:
            console.console.print(
                f"- {'; '.join(map(printable, unused))} change nothing", soft_wrap=True, markup=False
            )


def report(trainer: Trainer, folder: Path, finished: bool, before: bool, threads: ThreadChoice) -> None:
    """Print a summary of the training and its paths; a signal ends a whole sweep.

    Arguments:
        trainer: the trainer.
        folder: the run folder.
        finished: whether the budget is reached.
        before: whether it was reached before, and nothing trained.
        threads: how the number of threads was chosen.
    """
    parameters = sum(p.numel() for p in trainer.denoiser.net.parameters())
    trained = sum(p.numel() for p in trainer.weights)
    title = f"training of {folder}"
    if before:
        title += " was finished before, and nothing is trained; to go on, give a larger engine.images"
    elif not finished:
        title += ", stopped by a signal; the same command continues"
    console.print_table(
        title,
        {
            "images": f"{trainer.images:,} of {trainer.settings.images:,}",
            "parameters": f"{parameters:,}" + (f", {trained:,} trained" if trained < parameters else ""),
            **(
                {"threads": f"{threads.summary(trainer.execution)}{_format(trainer)}"}
                if trainer.device.type == "cpu" and not before
                else {}
            ),
        },
        {
            "checkpoints": folder / "checkpoints",
            **({"previews": folder / "previews"} if (folder / "previews").is_dir() else {}),
            "log": folder / "log.jsonl",
        },
    )
    reports.after_training(folder)
    if not finished and sweeping():
        raise SystemExit(128 + signal.SIGTERM)


def _format(trainer: Trainer) -> str:
    if len(trainer.train.shape) != 3:
        return ""
    return "; images channels last" if trainer.execution.channels_last else "; images channels first"


class GracefulShutdown:
    """Record SIGTERM and SIGINT inside the block; a second SIGINT interrupts at once."""

    def __enter__(self) -> "GracefulShutdown":
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
        """Return whether a signal arrived."""
        return self.arrived


class SaveConfig(Callback):
    """Save the configuration beside the checkpoints, once the training holds the lock of the folder."""

    def __init__(self, config: DictConfig, folder: Path) -> None:
        self.config, self.folder = config, folder

    def on_train_start(self, images: int, budget: int) -> None:
        """Save the configuration unless the training is finished."""
        if images < budget:  # else nothing is trained with it
            atomic.write(self.folder / "config.yaml", OmegaConf.to_yaml(self.config, resolve=True))


class ProgressCallback(Callback):
    """Show progress, loss and speed."""

    def __init__(self, bar: Progress) -> None:
        self.bar = bar

    def on_train_start(self, images: int, budget: int) -> None:
        """Add the progress bar, starting at ``images``."""
        self.task = self.bar.add_task("images", total=budget, completed=images, begun=images, note="")

    def on_step_end(self, images: int) -> None:
        """Advance the progress bar to ``images``."""
        self.bar.update(self.task, completed=images)

    def on_log(self, record: Record) -> None:
        """Show loss and speed."""
        self.bar.update(
            self.task, note=f"loss {record['loss']:.4f}  {record['images_per_second']:.0f} images/s"
        )

    def on_checkpoint(self, path: Path, images: int) -> None:
        """Show the images of the last checkpoint."""
        del path
        self.bar.update(self.task, description=f"images (saved at {images:,})")
