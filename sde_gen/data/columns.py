"""Columns of a table."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MOST_CATEGORIES = 256
"""Largest number of categories of a column."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """Column of a table, or a tensor of a network.

    Arguments:
        name: name in the header, or of the tensor.
        categories: the categories in order of their numbers; empty for numbers.
        whole: whether all numbers are whole.
        shape: shape of the tensor; empty for one number.
    """

    name: str
    categories: tuple[str, ...] = ()
    whole: bool = False
    shape: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """Numbers of a row that stand for the column: 1, one a category, or all of a tensor."""
        return len(self.categories) or math.prod(self.shape)


def read_csv(path: Path) -> list[list[str]]:
    """Read the rows of a CSV file, the first line included, all of the same length.

    Raises:
        ValueError: the file is missing, is no text in UTF-8, is empty, or a row has another number of cells.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path}; give one with data.path=FILE.csv")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            numbered = [
                (reader.line_num, row) for reader in [csv.reader(file, strict=True)] for row in reader if row
            ]
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise ValueError(f"{path} cannot be read as CSV in UTF-8: {error}") from error
    if not numbered:
        raise ValueError(f"{path} is empty; expected rows of cells separated by commas")
    width = len(numbered[0][1])
    for line, row in numbered:
        if len(row) != width:
            raise ValueError(
                f"{path}: line {line} has {len(row)} cells, the first line {width}; expected as many in every line"
            )
    return [[cell.strip() for cell in row] for _, row in numbered]


def number(cell: str) -> float | None:
    """Return the number of a cell; None if it holds none."""
    try:
        return float(cell)
    except ValueError:
        return None


def numbers(cells: Sequence[str], column: str, path: Path, first: int) -> list[float]:
    """Return the finite numbers of a column.

    Arguments:
        cells: the cells.
        column: name of the column, for messages.
        path: the file, for messages.
        first: number of the first row in the file.

    Raises:
        ValueError: a cell is empty, or holds no finite number; the message names its row.
    """
    found = [number(cell) for cell in cells]
    for row, (cell, value) in enumerate(zip(cells, found, strict=True), first):
        if value is None or not math.isfinite(value):
            what = f"holds {cell!r}" if cell else "is empty"
            raise ValueError(
                f"{path}: {column} {what} in row {row}; expected a finite number: correct the row, or remove it"
            )
    return [value for value in found if value is not None]
