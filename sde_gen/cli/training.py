"""Training from a configuration, with its callbacks and its final report."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, open_dict

from sde_gen.cli import build, console, instantiate, reports, run_reference
from sde_gen.cli.app import as_list
from sde_gen.cli.autoencoder import (
    check_classifier,
    check_codes,
    is_code,
    is_latent,
    with_codes,
    with_latents,
)
from sde_gen.cli.config_files import printable
from sde_gen.cli.controlled import check_base
from sde_gen.cli.initialization import initial_weights
from sde_gen.cli.loggers import check_loggers, make_loggers, pop_loggers
from sde_gen.cli.run_dir import set_run_dir
from sde_gen.cli.threads import ThreadChoice, of_training
from sde_gen.cli.training_callbacks import GracefulShutdown, ProgressCallback, SaveConfig, WasFinished
from sde_gen.cli.training_compatibility import check_compatible, check_data
from sde_gen.data import Splits
from sde_gen.distributed.strategy import init_distributed
from sde_gen.training import JSONL, Callback, Trainer


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
    instantiate.check(config)  # before the data, which may take long
    check_codes(config, build.trained_class(config))
    loggers = pop_loggers(config)
    with open_dict(config):
        parts = as_list(config.pop("parts"))
    check_loggers(loggers)
    splits: Splits = instantiate.make(config.data).load()
    named = run_reference.open_runs(config, device=config.device, beside=folder, parts=parts)
    run_reference.record(config, named)
    taken = run_reference.arguments(config, named)
    if "objective" in named:
        check_classifier(config, splits, named["objective"])
    if "model" in named:
        check_base(config, named["model"], splits)
    if is_latent(config):
        with_latents(config, splits, taken["codec"]["autoencoder"])
    elif is_code(config):
        with_codes(config, taken["codec"]["autoencoder"])
    check_compatible(folder, config)
    unused = check_data(folder, config, splits)
    initial = initial_weights(config, folder)
    chosen = of_training(config, build.device(config.device))
    with init_distributed(partial(instantiate.make, config.distributed)) as strategy:
        with GracefulShutdown() as stop, console.progress(shown=strategy.rank == 0) as bar:
            was = WasFinished()
            callbacks: list[Callback] = [
                was,
                SaveConfig(config, folder),
                JSONL(folder / "log.jsonl"),
                ProgressCallback(bar),
            ]
            trainer = build.trainer(
                config,
                splits,
                model=initial.model(partial(build.model, taken=taken), shown=strategy.rank == 0),
                init=initial.record,
                taken=taken,
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
            report(trainer, folder, finished, was.finished, chosen, stop.number)
        if strategy.rank == 0 and was.finished and unused:
            console.console.print(
                f"- {'; '.join(map(printable, unused))} change nothing", soft_wrap=True, markup=False
            )


def report(
    trainer: Trainer, folder: Path, finished: bool, before: bool, threads: ThreadChoice, stopped_by: int
) -> None:
    """Print a summary of the training and its paths; exit with 128 + the number of the signal that stopped it.

    Arguments:
        trainer: the trainer.
        folder: the run folder.
        finished: whether the budget is reached.
        before: whether it was reached before, and nothing trained.
        threads: how the number of threads was chosen.
        stopped_by: the signal, for an unfinished training.
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
    if (
        not finished
    ):  # neither the next job of a sweep nor the next command of a script takes it for a whole one
        raise SystemExit(128 + stopped_by)


def _format(trainer: Trainer) -> str:
    if len(trainer.train.shape) != 3:
        return ""
    return "; images channels last" if trainer.execution.channels_last else "; images channels first"
