"""Checkpoints: written atomically, verified when read, no code inside."""

import hashlib
import json
import math
import os
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

Tensors = dict[str, Tensor]

PARTS = ("net", "ema", "optimizer")
"""The files of tensors in a checkpoint, and the fields they come from."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Everything needed to go on, or to use the model elsewhere.

    Arguments:
        images: number of training images seen.
        net: weights of the network.
        ema: their moving average.
        optimizer: tensors of the optimiser.
        about: what JSON can say: step, configuration, facts of the data, versions, validation.
    """

    images: int
    net: Tensors
    ema: Tensors
    optimizer: Tensors
    about: dict[str, Any]


def save(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write folder/<images>, aside first and moved into place in one step.

    A process killed meanwhile, or a full disk, leaves what was there before.

    Raises:
        OSError: the checkpoint could not be written; nothing of it is left.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"{checkpoint.images:012d}"
    aside, old = folder / f".{final.name}.new", folder / f".{final.name}.old"
    try:
        shutil.rmtree(aside, ignore_errors=True)  # of a process killed while it wrote
        aside.mkdir()
        parts = {name: safetensors.torch.save(_contiguous(getattr(checkpoint, name))) for name in PARTS}
        for name, content in parts.items():
            _write(aside / f"{name}.safetensors", content)
        sums = {f"{name}.safetensors": hashlib.sha256(content).hexdigest() for name, content in parts.items()}
        text = json.dumps({"images": checkpoint.images, "about": checkpoint.about, "sha256": sums}, indent=1)
        _write(aside / "checkpoint.json", text.encode())
        _write(aside / "checkpoint.json.sha256", hashlib.sha256(text.encode()).hexdigest().encode())
        _sync(aside)
        if final.exists():  # the same counter again: that one was damaged, or the run would go on from it
            shutil.rmtree(old, ignore_errors=True)
            os.rename(final, old)
        os.rename(aside, final)
        _sync(folder)
    except OSError as error:
        raise OSError(
            error.errno,
            f"the checkpoint at {checkpoint.images:,} images was not written ({error.strerror}); "
            "older ones are untouched",
            str(folder),
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return final


def load(path: Path) -> Checkpoint:
    """Read and verify one checkpoint.

    Raises:
        ValueError: a file is missing or damaged; the message names it.
    """
    try:
        text = (path / "checkpoint.json").read_bytes()
        _verify(path / "checkpoint.json", text, (path / "checkpoint.json.sha256").read_text())
        header = json.loads(text)
        parts = {}
        for name in PARTS:
            content = (path / f"{name}.safetensors").read_bytes()
            _verify(path / f"{name}.safetensors", content, header["sha256"][f"{name}.safetensors"])
            parts[name] = safetensors.torch.load(content)  # bytes and shapes only: nothing in it is ever run
    except FileNotFoundError as error:
        missing = Path(error.filename).name
        raise ValueError(f"the checkpoint {path} is incomplete: there is no {missing}") from error
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"the checkpoint {path} was not written by this package ({error})") from error
    return Checkpoint(images=header["images"], about=header["about"], **parts)


def paths(folder: Path) -> list[Path]:
    """The checkpoints of a folder, oldest first."""
    return sorted(path for path in folder.glob("[0-9]*") if path.name.isdecimal() and path.is_dir())


def latest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole; damaged ones are named in a warning. None if there is none at all.

    Raises:
        ValueError: there are checkpoints, and all are damaged.
    """
    damaged = []
    for path in reversed(paths(folder)):
        try:
            found = load(path)
        except ValueError as error:
            damaged.append(str(error))
            continue
        if damaged:
            warnings.warn(f"{'; '.join(damaged)}; going back to {path}", stacklevel=2)
        return found
    if damaged:
        raise ValueError(f"every checkpoint is damaged: {'; '.join(damaged)}")
    return None


def best_path(folder: Path) -> Path | None:
    """The checkpoint of least validation loss; None if none was validated."""
    scored = [(score, path) for path in paths(folder) if (score := _validation(path)) is not None]
    return min(scored)[1] if scored else None


def prune(folder: Path, *, keep: int) -> None:
    """Delete all checkpoints but the newest ``keep`` and the best, and what killed processes left aside."""
    best = best_path(folder)
    for path in paths(folder)[:-keep]:
        if path != best:
            os.rename(path, path.with_name(f".{path.name}.old"))  # never half a checkpoint under its own name
    for path in folder.glob(".[0-9]*"):
        shutil.rmtree(path, ignore_errors=True)


def about(path: Path) -> dict[str, Any]:
    """What a checkpoint says of itself, without its weights; nothing where it is damaged."""
    try:
        found: dict[str, Any] = json.loads((path / "checkpoint.json").read_bytes())["about"]
    except (OSError, ValueError, KeyError):
        return {}
    return found


def _validation(path: Path) -> float | None:
    score: float | None = about(path).get("validation")
    return None if score is None or not math.isfinite(score) else score


def _contiguous(tensors: Tensors) -> Tensors:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _verify(path: Path, content: bytes, sha256: str) -> None:
    if hashlib.sha256(content).hexdigest() != sha256.strip():
        raise ValueError(f"{path} is damaged: its checksum differs from the one written with it")


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
