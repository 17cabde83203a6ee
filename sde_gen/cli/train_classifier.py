"""Train a classifier of noised samples: ``python -m sde_gen.train_classifier data=fashion_mnist sde=vp``."""

from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from sde_gen.cli import build, console
from sde_gen.cli.app import door
from sde_gen.cli.training import Bar, Begun, ConfigFile, Signals, check_data, check_meaning, name_run, report
from sde_gen.data import Splits
from sde_gen.distributed.strategy import assembled
from sde_gen.training import JSONL, Listener


@door("train_classifier")
def main(config: DictConfig) -> None:
    """Train, or go on where the run folder's last checkpoint stands."""
    name_run(config)
    folder = Path(config.run)
    build.check(config)  # before the data, which may take long
    splits: Splits = build.make(config.data).load()
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
            listeners += [build.make(logger) for logger in config.loggers]
            trainer = build.trainer(
                config, splits, model=build.classifier, listeners=listeners, stop=stop, team=team
            )
            finished = trainer.run()
        if team.rank == 0:
            report(trainer, folder, finished, begun.finished)
