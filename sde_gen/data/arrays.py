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

from sde_gen.data.base import Dataset, DatasetSource, Splits, check_fraction, random_mask
from sde_gen.data.text import text_rows

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

    Raises:
        ValueError: levels or classes are not positive, or test_fraction lies outside (0, 1).
    """

    path: str
    levels: int | None = None
    classes: int | None = None
    test_fraction: float = 0.1
    seed: int = 0

    places: ClassVar[frozenset[str]] = frozenset({"path"})

    def __post_init__(self) -> None:
        check_fraction(self.test_fraction)
        if (self.levels is not None and self.levels < 2) or (self.classes is not None and self.classes < 1):
            raise ValueError(
                f"levels={self.levels}, classes={self.classes}: expected at least 2 and 1, or null"
            )

    def load(self) -> Splits:
        """Read the file."""
        arrays = read(Path(self.path))
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
        if not test:
            if count < 2:
                raise ValueError(f"{self.path} has {count} sample; both splits need one")
            mask = random_mask(count, self.test_fraction, self.seed).numpy()
            train, test = ({name: array[rows] for name, array in train.items()} for rows in (~mask, mask))
        return Splits(train=self._part(train, train), test=self._part(test, train))

    def _part(self, arrays: Mapping[str, NDArray[Any]], train: Mapping[str, NDArray[Any]]) -> Dataset:
        """Return a split."""
        labels = train.get("label")
        classes = 0 if labels is None else self.classes or int(labels.max()) + 1
        values = torch.from_numpy(np.ascontiguousarray(arrays["values"]))
        conditions = {
            name: text_rows(array.tolist())
            if array.dtype.kind == "U"
            else torch.from_numpy(np.ascontiguousarray(array))
            for name, array in arrays.items()
            if name != "values"
        }
        if "label" in conditions:
            conditions["label"] = conditions["label"].long()
        return Dataset(
            values=values.float() if self.levels is None else values,
            levels=self.levels,
            classes=classes,
            conditions={
                name: rows.float() if rows.is_floating_point() else rows for name, rows in conditions.items()
            },
        )


def read(path: Path) -> dict[str, NDArray[Any]]:
    """Read all arrays of a file; the only one is called ``values``.

    Raises:
        ValueError: the file is missing, damaged, of another kind, or holds no ``values`` or no numbers.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path}; give one with data.path=FILE.npz")
    try:
        if path.suffix == ".safetensors":
            arrays = dict(load_file(path))
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        elif path.suffix == ".npy":
            arrays = {"values": np.load(path, allow_pickle=False)}
        else:
            raise ValueError("expected a file .npy, .npz or .safetensors")
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
