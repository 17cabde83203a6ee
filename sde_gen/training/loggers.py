"""Loggers: callbacks that write the numbers of a training for other programs."""

import csv
import importlib
import io
import netrc
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

from sde_gen.training.callbacks import Callback, MetricValue, Record
from sde_gen.utils import atomic

LARGEST = 2**28
"""Bytes of a CSV file that is continued, at most."""


def flatten(record: Record) -> dict[str, float]:
    """Return the numbers of a record by name; those by bin as ``name/bin``, without empty bins."""
    named = {
        tag: number
        for name, value in record.items()
        for tag, number in (
            {f"{name}/{label}": each for label, each in value.items()}
            if isinstance(value, dict)
            else {name: value}
        ).items()
    }
    return {tag: number for tag, number in named.items() if number is not None}


class CSV(Callback):
    """Table with a line for every record; a new column widens the lines before it by empty cells.

    Arguments:
        path: the file. Records after the checkpoint of a resumed training are removed.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def on_train_start(self, images: int, budget: int) -> None:
        """Remove the records after ``images``."""
        del budget
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.columns, rows = self._read()
        if self.columns:
            self._write([row for row in rows if _images(row) <= images])

    def on_log(self, record: Record) -> None:
        """Append the record; if it has new columns, write the file anew with all of them."""
        row = {tag: repr(number) for tag, number in flatten(record).items()}
        new = [tag for tag in row if tag not in self.columns]
        if new:
            _, rows = self._read()
            self.columns += new
            self._write([*rows, row])
        else:
            line = io.StringIO(newline="")
            csv.DictWriter(line, self.columns, lineterminator="\n").writerow(row)
            with atomic.open_append(self.path) as file:
                file.write(line.getvalue().encode())

    def on_metrics(self, scores: Mapping[str, MetricValue], images: int) -> None:
        """Append a line with the metrics of samples, if any."""
        if scores:
            self.on_log({"images": images, "metrics": {name: score.value for name, score in scores.items()}})

    def _read(self) -> tuple[list[str], list[dict[str, str]]]:
        """Return columns and rows of the file; its last line only if it is complete."""
        if not self.path.exists():
            return [], []
        text = atomic.read_regular(self.path, LARGEST).decode(errors="replace")
        complete = text[: text.rfind("\n") + 1]
        reader = csv.DictReader(io.StringIO(complete, newline=""))
        columns = list(dict.fromkeys(reader.fieldnames or []))
        return columns, [{tag: row[tag] or "" for tag in columns} for row in reader]

    def _write(self, rows: list[dict[str, str]]) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        atomic.write(self.path, text.getvalue())


def _images(row: dict[str, str]) -> float:
    try:
        return int(row["images"])
    except (ValueError, KeyError):  # edited
        return float("inf")


class TensorBoard(Callback):
    """Scalars for TensorBoard; needs the extra ``log``.

    Arguments:
        folder: folder of the event files.

    Raises:
        ValueError: tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.module = _import("torch.utils.tensorboard", "TensorBoard", "log")

    def on_train_start(self, images: int, budget: int) -> None:
        """Open the event file; what an interrupted training wrote after ``images`` is not shown."""
        if images < budget:
            resumed = {"purge_step": images + 1} if images else {}
            self.writer = self.module.SummaryWriter(str(self.folder), **resumed)

    def on_log(self, record: Record) -> None:
        """Write every number, by images."""
        for tag, number in flatten(record).items():
            self.writer.add_scalar(tag, number, record["images"])
        self.writer.flush()

    def on_metrics(self, scores: Mapping[str, MetricValue], images: int) -> None:
        """Log the metrics of samples."""
        self.on_log({"images": images, "metrics": {name: score.value for name, score in scores.items()}})

    def on_train_end(self, images: int) -> None:
        """Close the event file."""
        self.writer.close()


class WandB(Callback):
    """Curves for Weights & Biases; needs the extra ``wandb``. Without an account the run is stored offline.

    An account is one that the environment (``WANDB_API_KEY``, ``WANDB_MODE``) or the file ``.netrc`` names;
    ``wandb sync FOLDER/wandb/offline-run-...`` uploads a run stored offline. A resumed training continues its run.

    Arguments:
        folder: the run folder; the files lie in its subfolder wandb.
        project: name of the project.

    Raises:
        ValueError: wandb is not installed.
    """

    def __init__(self, folder: Path, project: str = "sde_gen") -> None:
        self.folder, self.project = Path(folder), project
        self.module = _import("wandb", "wandb", "wandb")

    def on_train_start(self, images: int, budget: int) -> None:
        """Begin or continue the run, unless the training is finished."""
        if images >= budget:
            return
        self.run = self.module.init(
            project=self.project,
            name=self.folder.name,
            dir=str(self.folder),
            id=self._id(),
            resume="allow",
            mode=None if _has_account() else "offline",
            reinit="finish_previous",
        )
        self.run.define_metric("*", step_metric="images")

    def on_log(self, record: Record) -> None:
        """Log every number."""
        self.run.log(flatten(record))

    def on_metrics(self, scores: Mapping[str, MetricValue], images: int) -> None:
        """Log the metrics of samples."""
        self.on_log({"images": images, "metrics": {name: score.value for name, score in scores.items()}})

    def on_train_end(self, images: int) -> None:
        """End the run."""
        self.run.finish()

    def _id(self) -> str:
        """Return the identifier of the run, drawn at its first start and stored in its folder."""
        path = self.folder / "wandb" / "id"
        if path.exists():
            return atomic.read_regular(path, 64).decode(errors="replace").strip()
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(path, drawn := secrets.token_hex(8))
        return drawn


def _has_account() -> bool:
    """Return whether the environment or .netrc decides where runs are stored."""
    if {"WANDB_API_KEY", "WANDB_MODE"} & os.environ.keys():
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        file = os.environ.get("NETRC", str(Path.home() / ".netrc"))
        return netrc.netrc(file).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _import(module: str, name: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"{name} cannot be imported ({error}): pip install 'sde_gen[{extra}]'") from error
