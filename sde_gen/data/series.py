"""Data sets of sequences."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from sde_gen.data.arrays import read
from sde_gen.data.base import Dataset, DatasetSource, Splits, check_fraction, random_mask, split
from sde_gen.data.columns import number, numbers, read_csv


@dataclass(frozen=True, kw_only=True)
class Series(DatasetSource):
    """Sequences of numbers from a file .csv, .npy, .npz or .safetensors: many, or one long one that is cut in windows.

    Without ``length`` the file holds many sequences (N, C, L), or (N, L) of one channel, of which a random share is the
    test split. With it the file holds one long sequence (T, C), or (T,) of one channel, such as the columns of a CSV
    file. Its end is the test split: no window of the training split shares a time with one of the test split.

    Arguments:
        path: the file.
        length: times of a window; None: the file holds many sequences.
        stride: times between the starts of two windows; None: length, so that windows do not overlap.
        columns: names of the columns of a CSV file that are taken; None: all.
        test_fraction: share of the test split.
        seed: draws the test split of many sequences.

    Raises:
        ValueError: length or stride is not positive, there is a stride without length, or test_fraction lies outside
            (0, 1).
    """

    path: str
    length: int | None = None
    stride: int | None = None
    columns: Sequence[str] | None = None
    test_fraction: float = 0.1
    seed: int = 0

    places: ClassVar[frozenset[str]] = frozenset({"path"})

    def __post_init__(self) -> None:
        check_fraction(self.test_fraction)
        if min(self.length or 1, self.stride or 1) < 1 or 0 in (self.length, self.stride):
            raise ValueError(f"length={self.length}, stride={self.stride}: expected at least 1, or null")
        if self.stride is not None and self.length is None:
            raise ValueError(
                f"stride={self.stride}: many sequences are not cut; give data.length=... or no stride"
            )

    def load(self) -> Splits:
        """Read the file."""
        path = Path(self.path)
        table = path.suffix == ".csv"
        if not table and self.columns is not None:
            raise ValueError(f"columns={list(self.columns)}: {path} is no CSV file; leave them out")
        values = self._csv(path) if table else self._array(path)
        if self.length is None:
            if table:
                raise ValueError(
                    f"{path} holds one long sequence; give the times of a window with data.length=..."
                )
            return self._many(values)
        return self._windows(values, self.length)

    def _array(self, path: Path) -> Tensor:
        arrays = read(path)
        if len(arrays) > 1:
            raise ValueError(
                f"{path} holds {', '.join(arrays)}; a series is one array, and data=arrays reads conditions, too"
            )
        return torch.from_numpy(np.array(arrays["values"], dtype=np.float32))

    def _csv(self, path: Path) -> Tensor:
        """Return the columns with shape (T, C); a first line without a number is the header."""
        rows = read_csv(path)
        header = all(number(cell) is None for cell in rows[0])
        names = rows[0] if header else [str(index) for index in range(len(rows[0]))]
        chosen = names if self.columns is None else [str(name) for name in self.columns]
        for name in chosen:
            if names.count(name) != 1:
                many = "several columns" if name in names else "no column"
                raise ValueError(f"{path} has {many} {name}; the columns are {', '.join(names)}")
        cells = list(zip(*rows[header:], strict=True))
        if not cells:
            raise ValueError(f"{path} has a header and no row; expected a row for every time")
        found = [numbers(cells[names.index(name)], name, path, 1 + header) for name in chosen]
        return torch.tensor(found, dtype=torch.float64).float().T

    def _many(self, values: Tensor) -> Splits:
        if values.ndim not in (2, 3):
            raise ValueError(
                f"{self.path} has shape {tuple(values.shape)}; expected sequences (N, C, L) or (N, L), or one long "
                "sequence (T, C) or (T,) with data.length=..."
            )
        if len(values) < 2:
            raise ValueError(f"{self.path} has {len(values)} sequence; both splits need one")
        events = values if values.ndim == 3 else values.unsqueeze(1)
        mask = random_mask(len(events), self.test_fraction, self.seed)
        return split(events, None, levels=None, classes=0, test=mask)

    def _windows(self, values: Tensor, length: int) -> Splits:
        if values.ndim > 2:
            raise ValueError(
                f"{self.path} has shape {tuple(values.shape)}; expected one long sequence (T, C) or (T,), or leave out "
                "data.length for sequences (N, C, L)"
            )
        channels = values.unsqueeze(0) if values.ndim == 1 else values.T  # (C, T)
        times = channels.shape[1]
        cut = times - max(length, round(self.test_fraction * times))
        if cut < length:
            raise ValueError(
                f"{self.path} has {times} times; both splits need a window of length={length}: expected at least "
                f"{2 * length} times, or a shorter length"
            )
        stride = self.stride or length
        train, test = (
            Dataset(values=part.unfold(1, length, stride).transpose(0, 1).contiguous(), levels=None)
            for part in (channels[:, :cut], channels[:, cut:])
        )
        return Splits(train=train, test=test)
