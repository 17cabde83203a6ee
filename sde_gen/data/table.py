"""Data sets of the rows of a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.data.base import DatasetSource, Splits, check_fraction, random_mask, split
from sde_gen.data.columns import MOST_CATEGORIES, Column, number, numbers, read_csv

LARGEST_WHOLE = 2**24
"""Largest whole number up to which float32 holds all."""


@dataclass(frozen=True, kw_only=True)
class TabularData(DatasetSource):
    """Rows of a table from a file .csv or .parquet, whose first line is the header; a random share is the test split.

    A column of numbers is one number of an event. A column without numbers is categorical, one number a category, 0
    or 1; so is a column of ``categorical``. The codec ``columns`` standardizes the numbers, and returns to the
    columns of the file. Columns named by ``label`` and ``vector`` are conditions, and no part of an event.

    Arguments:
        path: the file.
        columns: names of the columns that are taken; None: all.
        categorical: names of columns of numbers that are categories.
        label: name of the column that holds the classes; None for none.
        vector: names of columns of numbers that make up the condition ``vector``.
        test_fraction: share of the test split.
        seed: draws the test split.

    Raises:
        ValueError: a column is named twice, or test_fraction lies outside (0, 1).
    """

    path: str
    columns: Sequence[str] | None = None
    categorical: Sequence[str] = ()
    label: str | None = None
    vector: Sequence[str] = ()
    test_fraction: float = 0.1
    seed: int = 0

    places: ClassVar[frozenset[str]] = frozenset({"path"})

    def __post_init__(self) -> None:
        check_fraction(self.test_fraction)
        for name, named in (("columns", self.columns or ()), ("vector", self.vector)):
            if len(set(named)) < len(named):
                raise ValueError(f"{name}={list(named)}: a column is named twice")
        if self.label is not None and self.label in self.vector:
            raise ValueError(
                f"label={self.label} is one of vector={list(self.vector)}; expected different columns"
            )

    def load(self) -> Splits:
        """Read the file."""
        path = Path(self.path)
        rows = _parquet(path) if path.suffix == ".parquet" else read_csv(path)
        cells = self._cells(rows)
        given = {*self.vector, *([] if self.label is None else [self.label])}
        events = [name for name in cells if name not in given]
        if not events:
            raise ValueError(f"{path} has no column that is no condition; expected one at least")
        columns = {name: self._column(name, cells[name]) for name in events}
        values = torch.cat([self._numbers(columns[name], cells[name]) for name in events], dim=1)
        labels, class_names = self._labels(cells)
        vectors = [self._numbers(Column(name=name), cells[name]) for name in self.vector]
        return split(
            values,
            labels,
            levels=None,
            classes=len(class_names),
            test=random_mask(len(values), self.test_fraction, self.seed),
            class_names=class_names,
            conditions={"vector": torch.cat(vectors, dim=1)} if vectors else {},
            columns=tuple(columns.values()),
        )

    def _cells(self, rows: Sequence[Sequence[str]]) -> Mapping[str, Sequence[str]]:
        """Return the cells of every column that is taken, by its name."""
        header, body = rows[0], rows[1:]
        if len(set(header)) < len(header) or "" in header:
            raise ValueError(
                f"{self.path}: the first line is {', '.join(header)}; expected a name for every column"
            )
        if len(body) < 2:
            raise ValueError(f"{self.path} has {len(body)} rows below its header; both splits need one")
        chosen = header if self.columns is None else [*self.columns, *self.vector]
        chosen = [*chosen, *([] if self.label is None or self.label in chosen else [self.label])]
        for name in (*chosen, *self.categorical, *self.vector):
            if name not in header:
                raise ValueError(f"{self.path} has no column {name}; the columns are {', '.join(header)}")
        by_name = dict(zip(header, zip(*body, strict=True), strict=True))
        return {name: by_name[name] for name in dict.fromkeys(chosen)}

    def _column(self, name: str, cells: Sequence[str]) -> Column:
        """Return the kind of a column."""
        known = [number(cell) is not None for cell in cells]
        if name in self.categorical or not any(known):
            return Column(name=name, categories=self._categories(name, cells))
        if not all(known):
            row = known.index(False)
            what = f"holds {cells[row]!r}" if cells[row] else "is empty"
            raise ValueError(
                f"{self.path}: {name} {what} in row {row + 2}, and numbers in others; correct the row, or give "
                f"data.categorical=[{name}]"
            )
        values = numbers(cells, name, Path(self.path), 2)
        if min(values) == max(values):
            raise ValueError(
                f"{self.path}: {name} is {cells[0]} in all rows; leave the column out (data.columns=...)"
            )
        whole = all(value.is_integer() for value in values)
        if whole and max(map(abs, values)) > LARGEST_WHOLE:
            raise ValueError(
                f"{self.path}: {name} has whole numbers above {LARGEST_WHOLE:,}, which float32 does not hold; subtract "
                "a constant, or leave the column out"
            )
        return Column(name=name, whole=whole)

    def _categories(self, name: str, cells: Sequence[str]) -> tuple[str, ...]:
        if "" in cells:
            raise ValueError(
                f"{self.path}: {name} is empty in row {cells.index('') + 2}; name the category, or remove the row"
            )
        found = tuple(sorted(set(cells)))
        if len(found) < 2:
            raise ValueError(
                f"{self.path}: {name} is {found[0]} in all rows; expected at least two categories: leave the column out"
            )
        if len(found) > MOST_CATEGORIES:
            raise ValueError(
                f"{self.path}: {name} has {len(found):,} categories; expected at most {MOST_CATEGORIES}: leave the "
                "column out (data.columns=...), or join rare ones"
            )
        return found

    def _numbers(self, column: Column, cells: Sequence[str]) -> Tensor:
        """Return the numbers of a column with shape (N, column.size)."""
        if column.categories:
            place = {category: index for index, category in enumerate(column.categories)}
            index = torch.tensor([place[cell] for cell in cells])
            return torch.nn.functional.one_hot(index, len(column.categories)).float()
        values = numbers(cells, column.name, Path(self.path), 2)
        return torch.tensor(values, dtype=torch.float64).float().unsqueeze(1)

    def _labels(self, cells: Mapping[str, Sequence[str]]) -> tuple[Tensor | None, tuple[str, ...]]:
        """Return the classes and their names; None and () without."""
        if self.label is None:
            return None, ()
        names = self._categories(self.label, cells[self.label])
        return torch.tensor([names.index(cell) for cell in cells[self.label]]), names


def _parquet(path: Path) -> list[list[str]]:
    """Read a parquet file as the cells of a CSV file."""
    if not path.is_file():
        raise ValueError(f"there is no file {path}; give one with data.path=FILE.parquet")
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise ValueError(
            f'{path}: parquet needs pyarrow: pip install "sde_gen[hf]"; or save a CSV file'
        ) from error
    try:
        table = parquet.read_table(path)
    except (ArrowException, OSError) as error:
        raise ValueError(f"{path} cannot be read as parquet: {error}") from error
    columns = [
        ["" if value is None else str(value) for value in column.to_pylist()] for column in table.columns
    ]
    return [list(table.column_names), *(list(row) for row in zip(*columns, strict=True))]
