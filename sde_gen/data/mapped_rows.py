"""Rows of an array in a file, read on demand."""

import hashlib
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open

from sde_gen.data.lazy_images import LazyImages
from sde_gen.utils.types import Shape

BLOCK = 2**22
"""Bytes that are read at once where all rows are checked."""

SAFETENSORS = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "BOOL": "?", "U8": "u1", "I8": "i1"},
    **{"I16": "<i2", "I32": "<i4", "I64": "<i8", "U16": "<u2", "U32": "<u4", "U64": "<u8"},
}
"""NumPy's names of the number formats of safetensors; NumPy has no bfloat16."""


class MappedRows(LazyImages):
    """Rows of a memory-mapped array, copied from the file when they are accessed.

    The operating system holds what was read in its page cache and evicts it under memory pressure, so that the array
    may be larger than memory. All rows are read once, in blocks, to check them and to hash them.

    Arguments:
        array: memory-mapped array with shape (M, *event).
        rows: indices of the rows with shape (N,); None for all.
        levels: number of integer levels; None for continuous values, which are converted to float32.

    Raises:
        ValueError: a value is not finite or not a level; the message gives the row of the file.
    """

    def __init__(self, array: NDArray[Any], rows: NDArray[np.int64] | None, levels: int | None) -> None:
        self._array = array
        self._rows = np.arange(len(array)) if rows is None else rows
        native = array.dtype.newbyteorder("=")
        self.dtype = torch.float32 if levels is None else torch.from_numpy(np.empty(0, native)).dtype
        self._fingerprint = self._scan(levels) if len(self._rows) else ""

    @property
    def shape(self) -> Shape:
        """Return the shape (N, *event)."""
        return len(self._rows), *self._array.shape[1:]

    @property
    def fingerprint(self) -> str:
        """Return number format, shape and SHA-256 of the rows, those of the same rows in memory."""
        return self._fingerprint

    def read(self, places: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Copy rows of the file."""
        out[...] = self._array[self._rows[places]]

    def _scan(self, levels: int | None) -> str:
        step = max(1, BLOCK // max(1, self._array.itemsize * math.prod(self._array.shape[1:])))
        content = hashlib.sha256()
        for first in range(0, len(self._rows), step):
            block = self[first : first + step].numpy()
            good = np.isfinite(block) if levels is None else (block >= 0) & (block < levels)
            if not good.all():
                number, *place = np.argwhere(~good)[0].tolist()
                expected = "finite numbers" if levels is None else f"levels 0 to {levels - 1}"
                raise ValueError(
                    f"row {self._rows[first + number]} holds {block[(number, *place)]}; expected {expected}: "
                    "correct the row, or remove it"
                )
            content.update(np.ascontiguousarray(block).data)
        kind = "" if self.dtype == torch.uint8 else str(self.dtype)
        return f"{kind}{self.shape}{content.hexdigest()}"


def mapped(path: Path) -> dict[str, NDArray[Any]]:
    """Map the arrays of a file .npy, .npz (not compressed) or .safetensors into memory, without reading them.

    Raises:
        ValueError: an array is compressed, or has a number format that NumPy lacks.
    """
    if path.suffix == ".npy":
        return {"values": np.load(path, mmap_mode="r", allow_pickle=False)}
    return _npz(path) if path.suffix == ".npz" else _safetensors(path)


def _npz(path: Path) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    with zipfile.ZipFile(path) as archive, path.open("rb") as raw:
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            if info.compress_type != zipfile.ZIP_STORED:
                raise ValueError(
                    f"{name} is compressed, and rows of it cannot be read alone; save it with numpy.savez instead of "
                    "savez_compressed, or leave data.mmap=false"
                )
            raw.seek(info.header_offset + 26)
            sizes = np.frombuffer(raw.read(4), "<u2")  # of the name and of the extra field after it
            with archive.open(info) as file:
                version = np.lib.format.read_magic(file)
                header = {
                    (1, 0): np.lib.format.read_array_header_1_0,
                    (2, 0): np.lib.format.read_array_header_2_0,
                }
                if version not in header:
                    raise ValueError(f"{name} has version {version} of the format; expected 1.0 or 2.0")
                shape, fortran, dtype = header[version](file)
                start = info.header_offset + 30 + int(sizes.sum()) + file.tell()
            if dtype.hasobject:
                raise ValueError(f"{name} holds Python objects, which are not loaded")
            arrays[name] = _map(path, dtype, shape, start, "F" if fortran else "C")
    return arrays


def _safetensors(path: Path) -> dict[str, NDArray[Any]]:
    with safe_open(path, "np"):  # checks sizes and offsets
        pass
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    arrays: dict[str, NDArray[Any]] = {}
    for name, about in header.items():
        if name == "__metadata__":
            continue
        if about["dtype"] not in SAFETENSORS:
            raise ValueError(f"{name} has numbers {about['dtype']}; expected {', '.join(SAFETENSORS)}")
        dtype = np.dtype(SAFETENSORS[about["dtype"]])
        arrays[name] = _map(path, dtype, about["shape"], 8 + size + about["data_offsets"][0], "C")
    return arrays


def _map(path: Path, dtype: np.dtype[Any], shape: Any, start: int, order: Any) -> NDArray[Any]:
    if math.prod(shape) == 0:
        return np.empty(tuple(shape), dtype)  # nothing to map
    return np.memmap(path, dtype=dtype, mode="r", offset=start, shape=tuple(shape), order=order)
