"""Conditions that were computed elsewhere, read from files."""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sde_gen.data.conditioning.base import Conditioning
from sde_gen.noise import Noise

LARGEST = 2**30
"""Bytes of a file of conditions, at most."""


@dataclass(frozen=True, kw_only=True)
class GivenTensors(Conditioning):
    """Conditions in files .npz or .safetensors, for networks that are imported with no encoder.

    A file holds an array for every keyword argument of the network, with or without a first axis of length 1:
    ``tokens`` (L, W), the features of the tokens of a text, with an optional ``mask`` (L,) that is 1 where one is
    attended to; ``vector`` (V,); ``image`` (C, H, W). Texts of different lengths are padded and masked.

    Arguments:
        name: name of the condition by which a file is given: text or image.
        features: shape of the array of every keyword argument, by its name; -n for any length, n as an example.

    Raises:
        ValueError: there are no arrays.
    """

    name: str
    features: Mapping[str, Sequence[int]]

    def __post_init__(self) -> None:
        if not self.features:
            raise ValueError("features={}: expected the shape of at least one array")

    @property
    def names(self) -> tuple[str, ...]:
        """Return the name of the condition."""
        return (self.name,)

    @property
    def keys(self) -> tuple[str, ...]:
        """Return the names of the arrays, and that of the mask of tokens."""
        return (*self.features, *(("mask",) if "tokens" in self.features else ()))

    def drops(self, key: str) -> bool:
        """Return whether it is a text: another one, the empty one, can take its place."""
        return key in self.keys and self.name == "text"

    def given(self, conditions: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Raise ValueError: data hold no such conditions."""
        del conditions
        raise ValueError(
            f"the network was imported without an encoder of its {self.name}: it can sample, given {self.name}=FILE, "
            "and not be trained or evaluated"
        )

    def __call__(self, conditions: Mapping[str, Tensor], noise: Noise) -> dict[str, Tensor]:
        """Raise ValueError: data hold no such conditions."""
        del noise
        return self.given(conditions)

    def null(self, count: int) -> dict[str, Tensor]:
        """Return zeros, an example of what the network takes: a null it does not have."""
        found = {key: torch.zeros(count, *map(abs, shape)) for key, shape in self.features.items()}
        if "tokens" in found:
            found["mask"] = torch.ones(found["tokens"].shape[:2], dtype=torch.bool)
        return found

    def prompt(
        self, typed: Mapping[str, Any], count: int, *, class_names: Sequence[str] = ()
    ) -> dict[str, Tensor]:
        """Read the files, taken in turn.

        Raises:
            ValueError: no file is given, or one is missing, damaged or has other arrays.
        """
        del class_names
        self.reject_unknown(typed)
        value = typed.get(self.name)
        if value is None:
            held = ", ".join(f"{key} {_shown(shape)}" for key, shape in self.features.items())
            raise ValueError(
                f"the network needs {self.name}=FILE, an .npz or .safetensors with {held}, computed elsewhere"
            )
        rows = [self._row(path) for path in (value if isinstance(value, list | tuple) else [value])]
        if "tokens" in self.features:
            rows = _padded(rows)
        found = {key: torch.stack([row[key] for row in rows]) for key in self.keys}
        return {
            key: part.repeat(-(-count // len(rows)), *[1] * (part.ndim - 1))[:count]
            for key, part in found.items()
        }

    def _row(self, path: Any) -> dict[str, Tensor]:
        if not isinstance(path, str | Path):
            raise ValueError(f"{self.name}={path}: expected a file .npz or .safetensors")
        arrays, row = read(Path(path)), {}
        if unknown := [key for key in arrays if key not in self.keys]:
            raise ValueError(f"{path} holds {', '.join(unknown)}; the network takes {', '.join(self.keys)}")
        for key, shape in self.features.items():
            if key not in arrays:
                raise ValueError(f"{path} lacks {key}, an array of shape {_shown(shape)}")
            row[key] = _one(arrays[key], len(shape)).float()
            if len(row[key].shape) != len(shape) or any(
                0 <= side != found for side, found in zip(shape, row[key].shape, strict=True)
            ):
                raise ValueError(
                    f"{path}: {key} has shape {tuple(arrays[key].shape)}; expected {_shown(shape)}"
                )
            if not bool(row[key].isfinite().all()) or row[key].numel() == 0:
                raise ValueError(f"{path}: {key} holds NaN or infinity, or nothing")
        if "tokens" in row:
            mask = _one(arrays.get("mask", torch.ones(len(row["tokens"]))), 1)
            if mask.shape != row["tokens"].shape[:1]:
                raise ValueError(
                    f"{path}: mask has shape {tuple(mask.shape)}; expected one number for each of "
                    f"{len(row['tokens'])} tokens"
                )
            row["mask"] = mask > 0.5
        return row


def read(path: Path) -> dict[str, Tensor]:
    """Read the arrays of a file, without executing anything in it.

    Raises:
        ValueError: the file is missing, damaged, too large or of another kind, or holds no numbers.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"it has more than {LARGEST:,} bytes")
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        if path.suffix != ".npz":
            raise ValueError("expected a file .npz or .safetensors")
        with zipfile.ZipFile(path) as archive:
            if sum(part.file_size for part in archive.infolist()) > LARGEST:
                raise ValueError(f"it unpacks to more than {LARGEST:,} bytes")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        if any(array.dtype.kind not in "biuf" for array in arrays.values()):
            raise ValueError("it holds other things than numbers")
        return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
    except (ValueError, TypeError, OSError, EOFError, KeyError, zipfile.BadZipFile, SafetensorError) as error:
        raise ValueError(f"{path} cannot be read as arrays: {str(error).splitlines()[0]}") from error


def _one(array: Tensor, rank: int) -> Tensor:
    """Remove a first axis of length 1."""
    return array[0] if array.ndim == rank + 1 and len(array) == 1 else array


def _padded(rows: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """Pad all tokens to the most, masked."""
    most = max(len(row["tokens"]) for row in rows)
    found = []
    for row in rows:
        more = most - len(row["tokens"])
        tokens = torch.cat([row["tokens"], row["tokens"].new_zeros(more, row["tokens"].shape[1])])
        found.append({**row, "tokens": tokens, "mask": torch.cat([row["mask"], row["mask"].new_zeros(more)])})
    return found


def _shown(shape: Sequence[int]) -> str:
    return f"({', '.join('any' if side < 0 else str(side) for side in shape)}{',' * (len(shape) == 1)})"
