"""Progress bars and tables in the terminal."""

import sys
import threading
from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

console = Console(highlight=False)


EVERY = 30.0
"""Seconds between two lines of progress where there is no terminal for a bar."""


def progress(*, shown: bool = True, every: float = EVERY) -> Progress:
    """Progress with what is done, what is left and a free text; none is shown by other processes than the first.

    In a terminal a bar; where the output is a file or a pipe, a line now and then and one at the end.

    Arguments:
        shown: whether to show it.
        every: seconds between two lines.
    """
    console = Console(stderr=True)
    if shown and not console.is_terminal:
        return _Lines(every)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        expand=False,
        disable=not shown,
    )


class _Lines(Progress):
    """Progress printed as lines by a background thread, at regular intervals."""

    def __init__(self, every: float) -> None:
        super().__init__(disable=True)  # no bar
        self.every, self.done = every, threading.Event()
        self.thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def start(self) -> None:
        """Start the thread that redraws the line."""
        self.thread.start()

    def stop(self) -> None:
        """Stop the thread and print a last line."""
        if not self.done.is_set():
            self.done.set()
            self.thread.join()
            self._print()

    def _run(self) -> None:
        while not self.done.wait(self.every):
            self._print()

    def _print(self) -> None:
        for task in self.tasks:
            print(line(task), file=sys.stderr, flush=True)


def line(task: Task) -> str:
    """Return the progress of a task in a line; its field ``begun`` counts work completed in an earlier run."""
    begun = task.fields.get("begun", 0)
    total = "" if task.total is None else f"/{task.total:,.0f}"
    parts = [f"{task.description}: {task.completed:,.0f}{total}", f"{_clock(task.elapsed)} passed"]
    if task.total is not None and task.elapsed and begun < task.completed < task.total:
        left = task.elapsed * (task.total - task.completed) / (task.completed - begun)
        parts.append(f"{_clock(left)} left")
    return ", ".join(parts + [note for note in [str(task.fields.get("note", ""))] if note])


def _clock(seconds: float | None) -> str:
    return str(timedelta(seconds=round(seconds or 0)))


def print_table(
    title: str, rows: Mapping[str, str], paths: Mapping[str, object] = MappingProxyType({})
) -> None:
    """Print names and values in a box, and paths below it, each whole in one line.

    Arguments:
        title: the line above.
        rows: names and values.
        paths: names and paths of what was written.
    """
    table = Table(show_header=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(_printable(name), _printable(value))
    console.print(title, soft_wrap=True, style="italic", markup=False)
    console.print(table)
    width = max(map(len, paths), default=0)
    for name, path in paths.items():
        console.print(f"{name:<{width}}  {path}", soft_wrap=True, markup=False)


def _printable(text: str) -> Text:
    """A text without markup and control characters: names of classes and folders may be anybody's."""
    return Text("".join(letter if letter.isprintable() or letter == "\n" else " " for letter in text))


def print_summary(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table with a header; the first column is text, the others are numbers.

    One too wide for the terminal goes on below, the first column repeated.
    """
    console.print(title, soft_wrap=True, style="italic", markup=False)
    for part in _parts([max(map(len, column)) for column in zip(columns, *rows, strict=True)], console.width):
        grid = Table()
        for index in part:
            grid.add_column(columns[index], justify="left" if index == 0 else "right", no_wrap=True)
        for row in rows:
            grid.add_row(*(_printable(row[index]) for index in part))
        console.print(grid)


def _parts(widths: Sequence[int], width: int) -> list[list[int]]:
    """Return groups of columns that fit beside each other, with the first one in every part."""
    parts, border = [[0]], 3
    for index in range(1, len(widths)):
        used = 1 + sum(widths[column] + border for column in parts[-1])
        if len(parts[-1]) > 1 and used + widths[index] + border > width:
            parts.append([0])
        parts[-1].append(index)
    return parts
