"""Who is told how a training goes: log files, TensorBoard, and whatever the doors show."""

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sde_gen.utils import atomic
from sde_gen.utils.arguments import Checked

Record = Mapping[str, Any]
"""What is said of a training every so often: numbers by name, or by name and bin."""


class Callback(Checked):
    """Does nothing; override what is of interest."""

    def on_train_start(self, images: int, budget: int) -> None:
        """The training begins, or goes on, at ``images`` of ``budget``."""

    def on_step_end(self, images: int) -> None:
        """A step ended."""

    def on_log(self, record: Record) -> None:
        """Numbers are due."""

    def on_preview(self, denoiser: Any, images: int) -> None:
        """A preview is due; what is trained, a denoiser as a rule, has the averaged weights."""

    def on_checkpoint(self, path: Path, images: int) -> None:
        """A checkpoint was written."""


class JSONL(Callback):
    """One JSON object a line; records of a future that a restart undid are cut off.

    Arguments:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_start(self, images: int, budget: int) -> None:
        """Keep the records up to here."""
        del budget
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            text = self.path.read_text()
            lines = [line for line in text.splitlines(keepends=True) if _images(line) <= images]
            atomic.write(self.path, "".join(lines))

    def on_log(self, record: Record) -> None:
        """Append a line."""
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")


def _images(line: str) -> float:
    try:
        return int(json.loads(line)["images"])
    except (ValueError, KeyError):  # a line cut short by a kill
        return float("inf")


class TensorBoard(Callback):
    """Scalars for TensorBoard; needs the extra ``log``.

    Arguments:
        folder: where its files go.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self.writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter(str(folder))
        except ImportError as error:
            raise ValueError("TensorBoard is not installed: pip install 'sde_gen[log]'") from error

    def on_log(self, record: Record) -> None:
        """Write every number, by images."""
        for name, value in record.items():
            bins = (
                {f"{name}/{label}": number for label, number in value.items()}
                if isinstance(value, dict)
                else {name: value}
            )
            for tag, number in bins.items():
                if number is not None:
                    self.writer.add_scalar(tag, number, record["images"])
        self.writer.flush()
