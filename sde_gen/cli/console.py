"""Progress bars and tables in the terminal."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

console = Console(highlight=False)


def progress(*, shown: bool = True) -> Progress:
    """Make a progress bar with elapsed and remaining time and a free text."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
        expand=False,
        disable=not shown,
    )


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
        table.add_row(name, value)
    console.print(title, soft_wrap=True, style="italic", markup=False)
    console.print(table)
    width = max(map(len, paths), default=0)
    for name, path in paths.items():
        console.print(f"{name:<{width}}  {path}", soft_wrap=True, markup=False)


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
            grid.add_row(*(row[index] for index in part))
        console.print(grid)


def _parts(widths: Sequence[int], width: int) -> list[list[int]]:
    """Columns that fit beside each other, with the first one in every part."""
    parts, border = [[0]], 3
    for index in range(1, len(widths)):
        used = 1 + sum(widths[column] + border for column in parts[-1])
        if len(parts[-1]) > 1 and used + widths[index] + border > width:
            parts.append([0])
        parts[-1].append(index)
    return parts
