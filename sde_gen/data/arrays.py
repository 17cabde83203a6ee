"""Data sets of arrays in a file, with conditions by name."""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file
from torch import Tensor

from sde_gen.data.base import Dataset, DatasetSource, Splits, check_fraction, random_mask
from sde_gen.data.mapped_rows import MappedRows, mapped
from sde_gen.data.text import encode_texts

TEST = "test_"
"""Prefix of the arrays of a test split."""


@dataclass(frozen=True, kw_only=True)
class Arrays(DatasetSource):
    """Arrays of any event shape in a file .npy, .npz or .safetensors, one row per sample.

    The array ``values`` (N, *event), or the only one, holds the samples; every other one is a condition of its name:
    ``label`` (N,), classes as whole numbers from 0; ``vector`` (N, V); ``image`` (N, C, H, W); ``text`` (N,), captions.
    Arrays whose names begin with ``test_`` are the test split; without such, a share of the samples is held out.

    Arguments:
        path: the file.
        levels: number of integer levels of the values; None for continuous values.
        classes: number of classes; None: one more than the largest label.
        test_fraction: share of the test split, where the file has none.
        seed: draws the test split.
        mmap: read the rows of a batch from the file, for values larger than memory; conditions are kept in memory.

    Raises:
        ValueError: levels or classes are not positive, or test_fraction lies outside (0, 1).
    """

    path: str
    levels: int | None = None
    classes: int | None = None
    test_fraction: float = 0.1
    seed: int = 0
    mmap: bool = False

    places: ClassVar[frozenset[str]] = frozenset({"path"})
    idle: ClassVar[frozenset[str]] = frozenset({"mmap"})

    def __post_init__(self) -> None:
        check_fraction(self.test_fraction)
        if (self.levels is not None and self.levels < 2) or (self.classes is not None and self.classes < 1):
            raise ValueError(
                f"levels={self.levels}, classes={self.classes}: expected at least 2 and 1, or null"
            )

    def load(self) -> Splits:
        """Read the file, or map it into memory."""
        arrays = read(Path(self.path), mmap=self.mmap)
        test = {name.removeprefix(TEST): array for name, array in arrays.items() if name.startswith(TEST)}
        train = {name: array for name, array in arrays.items() if not name.startswith(TEST)}
        for name in test.keys() ^ train.keys() if test else ():
            raise ValueError(f"{self.path} has {name} in one split only; both need the same arrays")
        count = len(train["values"])
        for part in (train, test):
            for name, array in part.items():
                if len(array) != len(part["values"]):
                    raise ValueError(
                        f"{self.path}: {name} has {len(array)} rows, values {len(part['values'])}; expected as many"
                    )
            for name in part.keys() & {"label"}:
                self._check_classes(part[name])
        if test:
            if test["values"].shape[1:] != train["values"].shape[1:]:
                raise ValueError(
                    f"{self.path}: values have shape {train['values'].shape[1:]}, test_values "
                    f"{test['values'].shape[1:]}; expected the same"
                )
            return self._splits(train, None, test, None)
        if count < 2:
            raise ValueError(f"{self.path} has {count} sample; both splits need one")
        mask = random_mask(count, self.test_fraction, self.seed).numpy()
        return self._splits(train, np.flatnonzero(~mask), train, np.flatnonzero(mask))

    def _check_classes(self, label: NDArray[Any]) -> None:
        """Raise ValueError if labels are no whole numbers from 0."""
        if label.ndim != 1:
            raise ValueError(f"{self.path}: label has shape {label.shape}; expected {label.shape[:1]}")
        wrong = np.flatnonzero(~((label >= 0) & (label == np.floor(label))))
        if len(wrong):
            raise ValueError(
                f"{self.path}: label holds {label[wrong[0]]} in row {wrong[0]}; expected whole numbers from 0"
            )

    def _splits(
        self,
        train: Mapping[str, NDArray[Any]],
        train_rows: NDArray[np.int64] | None,
        test: Mapping[str, NDArray[Any]],
        test_rows: NDArray[np.int64] | None,
    ) -> Splits:
        labels = _select(train["label"], train_rows) if "label" in train else None
        classes = 0 if labels is None else self.classes or int(labels.max()) + 1
        return Splits(train=self._part(train, train_rows, classes), test=self._part(test, test_rows, classes))

    def _part(
        self, arrays: Mapping[str, NDArray[Any]], rows: NDArray[np.int64] | None, classes: int
    ) -> Dataset:
        """Return the rows of a split."""
        selected = {name: _select(array, rows) for name, array in arrays.items() if name != "values"}
        conditions = {
            name: encode_texts(array.tolist()) if array.dtype.kind == "U" else _tensor(array)
            for name, array in selected.items()
        }
        if "label" in conditions:
            conditions["label"] = conditions["label"].long()
        return Dataset(
            values=self._values(arrays["values"], rows),
            levels=self.levels,
            classes=classes,
            conditions={
                name: rows.float() if rows.is_floating_point() else rows for name, rows in conditions.items()
            },
        )

    def _values(self, array: NDArray[Any], rows: NDArray[np.int64] | None) -> Tensor | MappedRows:
        if not self.mmap:
            values = _tensor(_select(array, rows))
            return values.float() if self.levels is None else values
        if self.levels is not None and array.dtype.kind == "f":
            raise ValueError(
                f"values are {array.dtype} but levels={self.levels}: integer levels need an integer dtype"
            )
        try:
            return MappedRows(array, rows, self.levels)
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from error


def read(path: Path, *, mmap: bool = False) -> dict[str, NDArray[Any]]:
    """Read all arrays of a file, or map them into memory; the only one is called ``values``.

    Raises:
        ValueError: the file is missing, damaged, of another kind, or holds no ``values`` or no numbers.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path}; give one with data.path=FILE.npz")
    try:
        if path.suffix not in (".npy", ".npz", ".safetensors"):
            raise ValueError("expected a file .npy, .npz or .safetensors")
        if mmap:
            arrays = mapped(path)
        elif path.suffix == ".safetensors":
            arrays = dict(load_file(path))
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        else:
            arrays = {"values": np.load(path, allow_pickle=False)}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, SafetensorError) as error:
        raise ValueError(f"{path} cannot be read as arrays: {error}") from error
    if len(arrays) == 1:
        arrays = {"values": next(iter(arrays.values()))}
    if "values" not in arrays:
        raise ValueError(f"{path} holds {', '.join(arrays) or 'nothing'}; the samples are the array values")
    for name, array in arrays.items():
        text = array.dtype.kind == "U" and name.removeprefix(TEST) == "text"
        if not (text or array.dtype.kind in "biuf") or array.ndim < 1:
            raise ValueError(
                f"{path}: {name} has dtype {array.dtype} and shape {array.shape}; expected rows of numbers"
            )
    return arrays


def _select(array: NDArray[Any], rows: NDArray[np.int64] | None) -> NDArray[Any]:
    return np.asarray(array) if rows is None else np.asarray(array[rows])


def _tensor(array: NDArray[Any]) -> Tensor:
    """Return a copy in memory, in the byte order of the machine."""
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("=")))
