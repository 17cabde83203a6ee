"""Train a classifier of noised samples: ``python -m sde_gen.train_classifier data=fashion_mnist sde=vp``."""

from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from sde_gen.cli import build, console, threads
from sde_gen.cli.app import door
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
from sde_gen.distributed.strategy import init_distributed
from sde_gen.training import JSONL, Callback


@door("train_classifier")
def main(config: DictConfig) -> None:
    """Train, or go on where the run folder's last checkpoint stands."""
    set_run_dir(config)
    folder = Path(config.run)
    build.check(config)  # before the data, which may take long
    splits: Splits = build.make(config.data).load()
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
            callbacks += [build.make(logger) for logger in config.loggers]
            trainer = build.trainer(
                config,
                splits,
                model=build.classifier,
                callbacks=callbacks,
                stop=stop,
                strategy=strategy,
                chooser=chosen.chooser,
            )
            finished = trainer.run()
        if strategy.rank == 0:
            report(trainer, folder, finished, begun.finished, chosen)
