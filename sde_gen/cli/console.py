"""Numbers to people: progress bars and tables in the terminal."""

from collections.abc import Mapping, Sequence

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
    """A progress bar with what is done, what is left and a free text; one that is not shown, if another process' is."""
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


def print_table(title: str, rows: Mapping[str, str]) -> None:
    """Print names and values."""
    sheet = Table(title=title, show_header=False, title_justify="left", min_width=len(title))
    sheet.add_column(style="dim")
    sheet.add_column(overflow="fold")
    for name, value in rows.items():
        sheet.add_row(name, value)
    console.print(sheet)


def print_summary(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table with a header; the first column is text, the others are numbers.

    One too wide for the terminal goes on below, the first column repeated.
    """
    for part in _parts([max(map(len, column)) for column in zip(columns, *rows, strict=True)], console.width):
        grid = Table(title=title, title_justify="left", min_width=len(title))
        for index in part:
            grid.add_column(columns[index], justify="left" if index == 0 else "right", no_wrap=True)
        for row in rows:
            grid.add_row(*(row[index] for index in part))
        console.print(grid)


def _parts(widths: Sequence[int], room: int) -> list[list[int]]:
    """Columns that fit beside each other, with the first one in every part."""
    parts, border = [[0]], 3
    for index in range(1, len(widths)):
        used = 1 + sum(widths[one] + border for one in parts[-1])
        if len(parts[-1]) > 1 and used + widths[index] + border > room:
            parts.append([0])
        parts[-1].append(index)
    return parts
