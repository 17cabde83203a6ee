"""Metadata of a checkpoint about the data, and parts of its configuration that are no objects: read and checked."""

import math
import operator
from pathlib import Path
from typing import Any

from sde_gen.checkpoint.manifest import brief, line
from sde_gen.cli.data_spec import DataSpec
from sde_gen.data import DataIdentity

LARGEST_EVENT, MOST_CLASSES, MOST_LEVELS = 2**30, 2**20, 2**16
"""Numbers of a sample, classes of the data and levels of a number, at most."""


def read_data_spec(stored: Any, folder: Path) -> DataSpec:
    """Return shape, levels and classes of the data, as a checkpoint stores them.

    Raises:
        ValueError: they are none.
    """
    try:
        data_spec = DataSpec(**{**stored, "shape": tuple(map(operator.index, stored["shape"]))})
        for number in (data_spec.classes, data_spec.levels or 0):
            operator.index(number)
        if min(data_spec.shape, default=1) < 1 or math.prod(data_spec.shape) > LARGEST_EVENT:
            raise TypeError(f"shape={brief(data_spec.shape)}")
        if not (0 <= data_spec.classes <= MOST_CLASSES and 0 <= (data_spec.levels or 0) <= MOST_LEVELS):
            raise TypeError(f"classes={brief(data_spec.classes)}, levels={brief(data_spec.levels)}")
    except (TypeError, KeyError) as error:
        raise ValueError(
            f"the checkpoint in {folder} has invalid data metadata ({line(str(error), 200)})"
        ) from error
    return data_spec


def read_codec(about: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return what the codec learned from the training split.

    Raises:
        ValueError: it is no mapping.
    """
    stored = about.get("codec", {})
    if not isinstance(stored, dict):
        raise ValueError(f"the checkpoint in {folder} has an invalid codec ({brief(stored)})")
    return stored


def read_identity(about: dict[str, Any], folder: Path) -> DataIdentity:
    """Return the identity of the data, as a checkpoint stores it.

    Raises:
        ValueError: it is none.
    """
    try:
        return DataIdentity.read(about.get("data"))
    except ValueError as error:
        raise ValueError(f"the checkpoint in {folder} was not written by this package: {error}") from error


def read_sampling(stored: Any) -> dict[str, Any]:
    """Return the default of samples: steps, whether the last denoises, and perhaps scale and bound of predictions.

    Raises:
        ValueError: they are something else.
    """
    kinds: dict[str, type] = {"steps": int, "denoise_final": bool}
    kinds |= dict.fromkeys(("final_gain", "guidance", "clip"), float)
    if (
        not isinstance(stored, dict)
        or not {"steps", "denoise_final"} <= stored.keys() <= kinds.keys()
        or any(type(value) is not kinds[key] for key, value in stored.items())
    ):
        raise ValueError(
            f"the stored sampling is {brief(stored)}; expected steps and denoise_final, and {', '.join(kinds)} at most"
        )
    return stored


def read_before(stored: Any) -> dict[str, Any]:
    """Return the name of the stage before.

    Raises:
        ValueError: it is none.
    """
    if (
        not isinstance(stored, dict)
        or stored.keys() != {"run", "sha256"}
        or not all(isinstance(value, str) for value in stored.values())
    ):
        raise ValueError(f"the stored stage before is {brief(stored)}; expected run and sha256")
    return stored
