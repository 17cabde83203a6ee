"""Checkpoints: atomic writing, verified reading, no executable content."""

import hashlib
import math
import os
import shutil
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from sde_gen.checkpoint import manifest
from sde_gen.checkpoint.tensors import LazyTensor, open_shards
from sde_gen.checkpoint.writer import CheckpointWriter
from sde_gen.distributed.strategy import SingleProcess, Strategy
from sde_gen.utils import atomic

PARTS = ("net", "ema", "optimizer", "objective")
"""Parts of a checkpoint with tensors, and their fields."""

OPTIONAL = frozenset({"objective"})
"""Parts that only some checkpoints have; where they are missing they are empty."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """State of a training: everything needed to resume it or to use the model elsewhere.

    Arguments:
        images: number of training images seen.
        net: weights of the network.
        ema: their moving average.
        optimizer: tensors of the optimizer.
        about: JSON-serializable metadata: configuration, data specification, versions, validation loss.
        objective: tensors of the objective's state, if it has one.
    """

    images: int
    net: Mapping[str, Tensor]
    ema: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    about: dict[str, Any]
    objective: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StoredCheckpoint:
    """Complete checkpoint on disk; tensors are loaded by indexing, ``saved.ema[name][()]``.

    Arguments:
        images, net, ema, optimizer, objective, about: as in :class:`Checkpoint`; parts that were not requested are
            empty.
        sha256: SHA-256 of every part that was requested, by its name.
    """

    images: int
    net: Mapping[str, LazyTensor]
    ema: Mapping[str, LazyTensor]
    optimizer: Mapping[str, LazyTensor]
    objective: Mapping[str, LazyTensor]
    about: dict[str, Any]
    sha256: Mapping[str, str]


def save(folder: Path, checkpoint: Checkpoint, strategy: Strategy = SingleProcess()) -> Path:  # noqa: B008, without state
    """Write folder/<images> atomically; a collective operation.

    A killed process or a full disk leaves earlier checkpoints untouched.

    Raises:
        OSError: a process could not write the checkpoint; no part of it is left.
    """
    writer = CheckpointWriter(folder, checkpoint.images, checkpoint.about)
    try:
        parts = {part: getattr(checkpoint, part) for part in PARTS}
        strategy.save({part: parts[part] for part in PARTS if parts[part] or part not in OPTIONAL}, writer)
    except OSError as error:
        raise OSError(
            error.errno,
            f"the checkpoint at {checkpoint.images:,} images was not written ({error.strerror}); "
            "older ones are untouched",
            str(folder),
        ) from error
    finally:
        if strategy.rank == 0:
            writer.abort()
    return writer.final


def load(
    path: Path,
    parts: Collection[str] = PARTS,
    strategy: Strategy = SingleProcess(),  # noqa: B008, without state
) -> StoredCheckpoint:
    """Verify and open a checkpoint; a collective operation in which every process verifies some of the files.

    Arguments:
        path: folder of the checkpoint.
        parts: names of the parts to open.
        strategy: the processes.

    Raises:
        ValueError: a file is missing or damaged; all processes raise the error, which names the file.
    """
    saved, problem = None, None
    try:
        saved = _verified(path, parts, strategy)
    except ValueError as error:
        problem = str(error)
    problems = [message for message in strategy.all_gather_object(problem) if message]
    if problems:
        raise ValueError(problems[0])
    assert saved is not None
    return saved


def paths(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, oldest first."""
    return sorted(path for path in folder.glob("[0-9]*") if path.name.isdecimal() and path.is_dir())


def latest(
    folder: Path,
    parts: Collection[str] = PARTS,
    strategy: Strategy = SingleProcess(),  # noqa: B008, without state
) -> StoredCheckpoint | None:
    """Load the newest undamaged checkpoint, with a warning that names damaged ones; return None if there is none.

    Arguments:
        folder: the folder of checkpoints; the listing of rank 0 counts.
        parts: names of the parts to open.
        strategy: the processes; a collective operation.

    Raises:
        ValueError: all checkpoints are damaged.
    """
    damaged: list[str] = []
    candidates = strategy.all_gather_object(paths(folder))[0]
    while candidates:
        path = candidates.pop()
        try:
            saved = load(path, parts, strategy)
        except ValueError as error:
            deleted = strategy.all_gather_object(not path.exists())[0]
            if deleted:  # by a concurrent training, which has written newer ones
                candidates, damaged = strategy.all_gather_object(paths(folder))[0], []
            else:
                damaged.append(str(error))
            continue
        if damaged:
            warnings.warn(f"{'; '.join(damaged)}; going back to {path}", stacklevel=2)
        return saved
    if damaged:
        raise ValueError(f"every checkpoint is damaged: {'; '.join(damaged)}")
    return None


def best(folder: Path, parts: Collection[str] = PARTS, metric: str | None = None) -> StoredCheckpoint | None:
    """Load the checkpoint with the smallest validation loss, or best by a metric of samples; None if none has it.

    Raises:
        ValueError: it is damaged.
    """
    while (path := best_path(folder, metric)) is not None:
        try:
            return load(path, parts)
        except ValueError:
            if path.exists():
                raise  # otherwise a concurrent training has deleted it, because there is a better one
    return None


def best_path(folder: Path, metric: str | None = None) -> Path | None:
    """Return the path of the checkpoint with the smallest validation loss, or best by a metric; None if none has it."""
    while True:
        found = paths(folder)
        best = _best(found, metric)
        if all(path.exists() for path in found):  # otherwise a concurrent training has deleted one
            return best


def best_names(folder: Path) -> list[str]:
    """Return the names by which :func:`best` finds a checkpoint: best, and best-METRIC of every metric of samples."""
    found = paths(folder)
    metrics = sorted(
        {metric for path in found for metric in _metrics(path) if _score(path, metric) is not None}
    )
    return ["best"] * (_best(found) is not None) + [f"best-{metric}" for metric in metrics]


def clear(folder: Path) -> None:
    """Delete temporary folders of killed trainings; the run folder must be locked."""
    for path in folder.glob(".[0-9]*"):
        shutil.rmtree(path, ignore_errors=True)


def prune(folder: Path, newest: Path, *, keep: int) -> None:
    """Delete temporary folders and all checkpoints but the best and the last ``keep`` up to ``newest``.

    The best are those with the smallest validation loss and by every metric of samples.

    Checkpoints with more images than ``newest`` are damaged, and the training fell back to an earlier one. They do not
    count, and are replaced when the training reaches them again.

    Arguments:
        folder: the folder of checkpoints.
        newest: the checkpoint that was just written.
        keep: number of checkpoints to keep.
    """
    whole = [path for path in paths(folder) if path.name <= newest.name]
    best = {_best(whole), *(_best(whole, metric) for path in whole for metric in _metrics(path))}
    for path in whole[:-keep]:
        if path not in best:
            os.rename(path, path.with_name(f".{path.name}.old"))  # never half a checkpoint under its own name
    clear(folder)


def about(path: Path) -> dict[str, Any]:
    """Return the metadata of a checkpoint; an empty dict if it is damaged."""
    try:
        return manifest.read(path).about
    except ValueError:
        return {}


def _best(among: Collection[Path], metric: str | None = None) -> Path | None:
    scored = [(score, path) for path in among if (score := _score(path, metric)) is not None]
    return min(scored)[1] if scored else None


def _score(path: Path, metric: str | None) -> float | None:
    """Return the validation loss, or a metric of samples, negative where larger is better; None if unknown."""
    if metric is None:
        score: float | None = about(path).get("validation")
        return None if score is None or not math.isfinite(score) else score
    found = _metrics(path).get(metric, {})
    value = found.get("value")
    if not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return -value if found.get("larger_is_better") else value


def _metrics(path: Path) -> dict[str, dict[str, Any]]:
    found = about(path).get("metrics")
    return (
        {name: one for name, one in found.items() if isinstance(one, dict)} if isinstance(found, dict) else {}
    )


def _verified(path: Path, parts: Collection[str], strategy: Strategy) -> StoredCheckpoint:
    header = manifest.read(path)
    sums = {path / name: sha256 for name, sha256 in header.sha256.items()}
    files = {part: [file for file in sums if file.name.partition(".")[0] == part] for part in parts}
    absent = [part for part, names in files.items() if not names and part not in OPTIONAL]
    if absent:
        raise ValueError(f"the checkpoint {path} is incomplete: it lists no file of the part {absent[0]}")
    try:
        for file in (wanted := [file for group in files.values() for file in group]):
            atomic.check_regular(file)
        tensors = {part: open_shards(files[part]) if part in files else {} for part in PARTS}
        for file in wanted[strategy.rank :: strategy.size]:  # which are as long as their headers say
            manifest.verify_checksum(file, _digest(file), sums[file])
    except OSError as error:
        raise ValueError(manifest.unreadable(path, error)) from error
    digests = {part: manifest.part_digest(header.sha256, part) for part in PARTS if files.get(part)}
    return StoredCheckpoint(images=header.images, about=header.about, sha256=digests, **tensors)


def _digest(path: Path) -> "hashlib._Hash":
    digest = hashlib.sha256()
    with atomic.open_regular(path) as file:
        for block in iter(lambda: file.read(2**20), b""):
            digest.update(block)
    return digest
