"""Content of a run folder for a report: no object is built, no code executed, and damaged files are noted."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from sde_gen.checkpoint import store as checkpoint
from sde_gen.checkpoint.manifest import line
from sde_gen.utils import atomic

LARGEST = 2**26
"""Maximum size of a log or JSON file in bytes."""

MOST_SETTINGS = 4096
"""Maximum number of settings shown or compared."""

MOST_SAMPLES = 12
"""Maximum number of folders of samples, newest first."""

UNKNOWN = float("nan")


@dataclass(frozen=True, kw_only=True)
class Result:
    """Result of an evaluation: an estimate with its standard error, and the content of its file.

    Arguments:
        name: name of the metric.
        mean: the estimate.
        se: its standard error, NaN if it is not known.
        unit: unit of both.
        content: parsed content of the file.
        path: the file.
    """

    name: str
    mean: float
    se: float
    unit: str
    content: dict[str, Any]
    path: Path

    @property
    def nfe(self) -> float:
        """Network evaluations per image or sample; NaN if they are not known."""
        known = (
            as_number(self.content.get(f"network_evaluations_per_{what}")) for what in ("image", "sample")
        )
        return next((number for number in known if math.isfinite(number)), UNKNOWN)


@dataclass(frozen=True, kw_only=True)
class SampleFolder:
    """Samples with their picture.

    Arguments:
        folder: the folder.
        about: content of samples.json; empty in folders of an earlier version.
        pictures: picture files by kind.
    """

    folder: Path
    about: dict[str, Any]
    pictures: dict[str, Path]


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """Content of a run folder.

    Arguments:
        path: the folder.
        images: training images at the last checkpoint; None without a checkpoint.
        about: metadata of the last checkpoint: configuration, versions, data, command.
        config: the configuration; empty if there is none.
        log: records of the training.
        validations: validation losses of the checkpoints that are kept, by images.
        previews: pictures of the training, by images.
        samples: folders of samples, the newest first.
        results: results of evaluations.
        benchmark: content of benchmark.json; empty if there is none.
        notes: files that could not be read, one line each.
    """

    path: Path
    images: int | None
    about: dict[str, Any]
    config: dict[str, Any]
    log: list[dict[str, Any]]
    validations: list[tuple[int, float]]
    previews: list[tuple[int, Path]]
    samples: list[SampleFolder]
    results: list[Result]
    benchmark: dict[str, Any]
    notes: list[str]

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.path.resolve().name

    @property
    def settings(self) -> dict[str, str]:
        """The configuration as text by dotted name."""
        return dict(flatten(self.config))

    @property
    def command(self) -> str:
        """The command of the training; empty if it is not stored."""
        found = self.about.get("command")
        return found if isinstance(found, str) else ""


def read(path: Path) -> RunFolder:
    """Read a run folder; missing files give empty values, damaged ones are noted.

    Raises:
        ValueError: there is no such folder.
    """
    if not path.is_dir():
        raise ValueError(f"there is no run folder {path}; name one that a training has left")
    notes = _Notes()
    images, about, validations = _checkpoints(path, notes)
    config = about.get("config")
    return RunFolder(
        path=path,
        images=images,
        about=about,
        config=config if isinstance(config, dict) else _config(path / "config.yaml", notes),
        log=_log(path / "log.jsonl", notes),
        validations=validations,
        previews=[
            (int(file.stem), file)
            for file in sorted((path / "previews").glob("[0-9]*.png"))
            if file.stem.isdecimal() and len(file.stem) <= 15
        ],
        samples=_samples(path / "samples", notes),
        results=results(path / "evaluation", notes.lines),
        benchmark=_json(path / "benchmark" / "benchmark.json", notes),
        notes=notes.lines,
    )


def results(folder: Path, notes: list[str]) -> list[Result]:
    """Return the results in a folder of an evaluation, by name; files of another form are left out.

    Arguments:
        folder: the folder.
        notes: where to note files that are damaged.
    """
    found = []
    for path in sorted(folder.glob("*.json")):
        content = _json(path, _Notes(notes))
        mean = as_number(content.get("mean", content.get("value")))
        if math.isfinite(mean):
            name, unit = content.get("name", content.get("metric", path.stem)), content.get("unit", "")
            found.append(
                Result(
                    name=line(str(name), 60),
                    mean=mean,
                    se=as_number(content.get("standard_error", content.get("se"))),
                    unit=line(str(unit), 30),
                    content=content,
                    path=path,
                )
            )
    names = [result.name for result in found]
    return [
        replace(result, name=f"{result.name}, {result.nfe:g} NFE")
        if names.count(result.name) > 1 and result.nfe == result.nfe
        else result
        for result in found
    ]


def sample_folder(folder: Path, notes: list[str]) -> SampleFolder:
    """Return the samples of a folder.

    Arguments:
        folder: the folder.
        notes: where to note files that are damaged.
    """
    files = {"samples": "samples.png", "trajectory": "trajectory.png", "animation": "trajectory.gif"}
    return SampleFolder(
        folder=folder,
        about=_json(folder / "samples.json", _Notes(notes)),
        pictures={what: folder / name for what, name in files.items() if (folder / name).is_file()},
    )


def as_number(value: Any) -> float:
    """Convert a JSON number to a float; everything else to NaN."""
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if plain and abs(value) < 1e300 else UNKNOWN


def flatten(node: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Iterate over the settings of a nested configuration as dotted names and texts, up to a limit.

    Raises:
        ValueError: there are more than :data:`MOST_SETTINGS`.
    """
    stack, count = [(name, node)], 0
    while stack:
        name, node = stack.pop()
        count += 1
        if count > MOST_SETTINGS:
            raise ValueError(f"the configuration has more than {MOST_SETTINGS} settings")
        if isinstance(node, dict) and node:
            stack += [(f"{name}.{key}" if name else str(key), child) for key, child in reversed(node.items())]
        elif isinstance(node, list) and any(isinstance(child, dict | list) for child in node):
            stack += [(f"{name}.{index}", child) for index, child in reversed([*enumerate(node)])]
        else:
            text = "null" if node is None else str(node).lower() if isinstance(node, bool) else str(node)
            yield line(name, 200), line(text, 200)


class _Notes:
    """Lines about files that could not be read."""

    def __init__(self, lines: list[str] | None = None) -> None:
        self.lines = [] if lines is None else lines

    def add(self, path: Path, error: Exception) -> None:
        self.lines.append(line(f"{path.name} cannot be read: {error or type(error).__name__}", 160))


def _checkpoints(path: Path, notes: _Notes) -> tuple[int | None, dict[str, Any], list[tuple[int, float]]]:
    """Return images and metadata of the newest checkpoint, and the validation losses of all."""
    images: int | None = None
    about: dict[str, Any] = {}
    validations = []
    for folder in checkpoint.paths(path / "checkpoints")[-100:]:
        if len(folder.name) > 15 or not (found := checkpoint.about(folder)):
            notes.add(folder, ValueError("the checkpoint is damaged or incomplete"))
            continue
        images, about = int(folder.name), found
        if math.isfinite(loss := as_number(about.get("validation"))):
            validations.append((images, loss))
    return images, about, validations


def _config(path: Path, notes: _Notes) -> dict[str, Any]:
    """Read config.yaml, before the first checkpoint."""
    if not path.exists():
        return {}
    try:
        found = yaml.safe_load(atomic.read_regular(path, 2**20))
    except Exception as error:  # of any damaged file
        notes.add(path, error)
        return {}
    return found if isinstance(found, dict) else {}


def _log(path: Path, notes: _Notes) -> list[dict[str, Any]]:
    """Read the records of a training; a last line that is being written is left out."""
    if not path.exists():
        return []
    try:
        lines = atomic.read_regular(path, LARGEST).splitlines()
    except OSError as error:
        notes.add(path, error)
        return []
    records, bad = [], 0
    for text in lines:
        try:
            record = json.loads(text)
        except (ValueError, RecursionError):
            bad += 1
            continue
        if isinstance(record, dict) and math.isfinite(as_number(record.get("images"))):
            records.append(record)
    if bad > 1:
        notes.add(path, ValueError(f"{bad} lines are no JSON"))
    return sorted(records, key=lambda record: as_number(record["images"]))


def _samples(folder: Path, notes: _Notes) -> list[SampleFolder]:
    found = [(path.stat().st_mtime, path.parent) for path in folder.glob("*/samples.npz") if path.is_file()]
    newest = [path for _, path in sorted(found, reverse=True)[:MOST_SAMPLES]]
    return [sample_folder(path, notes.lines) for path in newest]


def _json(path: Path, notes: _Notes) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        found = json.loads(atomic.read_regular(path, LARGEST))
    except (OSError, ValueError, RecursionError) as error:
        notes.add(path, error)
        return {}
    return found if isinstance(found, dict) else {}
