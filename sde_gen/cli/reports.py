"""Reports written by the commands after the results are saved; a failure is a warning."""

import os
import shlex
import time
from functools import partial
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from sde_gen.cli import console
from sde_gen.report import REPORT_NAME, write_evaluation, write_run, write_samples
from sde_gen.training import Callback
from sde_gen.training.callbacks import Record
from sde_gen.utils.images import attempt

EVERY, SHARE = 60.0, 0.005
"""Minimum seconds between two reports of a training, and their maximum share of the time."""


def command_line(command: str) -> str:
    """Return the command line of this job, quoted for a shell."""
    return shlex.join(["python", "-m", f"sde_gen.{command}", *HydraConfig.get().overrides.task])


def after_training(folder: Path) -> None:
    """Write the report of a run and print its path."""
    _leave(folder, partial(write_run, folder))


def after_evaluation(folder: Path, run: Path) -> None:
    """Write the report of an evaluation and update that of its run if the run contains the folder."""
    _leave(folder, partial(write_evaluation, folder, run))
    refresh_around(folder, run)


def after_samples(folder: Path, run: Path) -> None:
    """Write the report of samples and update that of their run if the run contains the folder."""
    _leave(folder, partial(write_samples, folder, run))
    refresh_around(folder, run)


def refresh_around(folder: Path, run: Path) -> None:
    """Renew the report of a run that contains a folder; results elsewhere leave the run as it is."""
    if run.resolve() in folder.resolve().parents:
        refresh(run)


def refresh(run: Path) -> None:
    """Update the report of a run, unless its folder is read-only."""
    if os.access(run, os.W_OK):
        attempt(partial(write_run, run), run / REPORT_NAME, "report")


def _leave(folder: Path, make: partial[Path]) -> None:
    if attempt(make, folder / REPORT_NAME, "report"):
        console.console.print(f"report  {folder / REPORT_NAME}", soft_wrap=True, markup=False)


class WhileTraining(Callback):
    """Update the report of a run periodically.

    Arguments:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.due = time.monotonic() + EVERY

    def on_log(self, record: Record) -> None:
        """Update the report if it is due; its time is not counted as training time."""
        del record
        begin = time.monotonic()
        if begin >= self.due:
            refresh(self.folder)
            end = time.monotonic()
            self.due = end + max(EVERY, (end - begin) / SHARE)
