"""Callbacks of a training: the interface, and the log of every training."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sde_gen.utils import atomic
from sde_gen.utils.arguments import Checked

Record = Mapping[str, Any]
"""Record of the log: numbers by name, or by name and bin."""


class MetricValue(NamedTuple):
    """Value of a metric of samples.

    Arguments:
        value: the number.
        se: its standard error; NaN if unknown.
        larger_is_better: whether models are better the larger it is.
    """

    value: float
    se: float
    larger_is_better: bool = False

    def plain(self) -> dict[str, Any]:
        """Convert to a JSON object."""
        se = self.se if math.isfinite(self.se) else None
        return {"value": self.value, "standard_error": se, "larger_is_better": self.larger_is_better}


class Callback(Checked):
    """Base class of callbacks; all methods do nothing by default."""

    def on_train_start(self, images: int, budget: int) -> None:
        """Handle the start or resumption of the training at ``images`` of ``budget``."""

    def on_step_end(self, images: int) -> None:
        """Handle the end of a training step, after ``images`` images in total."""

    def on_log(self, record: Record) -> None:
        """Handle a new record of the log."""

    def on_preview(self, denoiser: Any, images: int) -> None:
        """Save a preview of ``denoiser``, the model with EMA weights."""

    def on_metrics(self, scores: Mapping[str, MetricValue], images: int) -> None:
        """Metrics of samples were computed."""

    def on_checkpoint(self, path: Path, images: int) -> None:
        """Handle a new checkpoint."""

    def on_train_end(self, images: int) -> None:
        """The training reached its budget, or was stopped, after ``images`` images; at least one step was taken."""


class JSONL(Callback):
    """Log file with one JSON object per line; records after the checkpoint of a resumed training are removed.

    Arguments:
        path: the file; a symbolic link is an error.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_start(self, images: int, budget: int) -> None:
        """Remove the records after ``images``."""
        del budget
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic.open_append(self.path) as file:
            file.seek(0)
            lines = file.read().decode(errors="replace").splitlines(keepends=True)
        kept = [line for line in lines if _images(line) <= images]
        if kept != lines:
            atomic.write(self.path, "".join(kept))

    def on_log(self, record: Record) -> None:
        """Append the record as a line."""
        with atomic.open_append(self.path) as file:
            file.write(json.dumps(record).encode() + b"\n")

    def on_metrics(self, scores: Mapping[str, MetricValue], images: int) -> None:
        """Append a line with the metrics of samples."""
        self.on_log({"images": images, "metrics": {name: score.plain() for name, score in scores.items()}})


def _images(line: str) -> float:
    try:
        return int(json.loads(line)["images"])
    except (
        ValueError,
        KeyError,
        TypeError,
        OverflowError,
        RecursionError,
    ):  # a line truncated by a kill, or edited
        return float("inf")
