"""Manifest of a checkpoint: validated JSON with metadata and the checksums of all files."""

import hashlib
import json
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sde_gen.utils import atomic

NAME = "checkpoint.json"
"""File name of the manifest, which is written last, together with a file of its SHA-256."""

LARGEST = 2**24
"""Maximum size of the manifest in bytes."""

LARGEST_SUM = 2**10
"""Maximum size of the checksum file in bytes."""

LONGEST_MESSAGE = 400
"""Letters of a message, at most."""

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60
_SHORT.maxlevel, _SHORT.maxdict, _SHORT.maxlist = 2, 4, 4


class Manifest(NamedTuple):
    """Content of :data:`NAME`.

    Attributes:
        images: number of training images seen.
        about: metadata of the training.
        sha256: SHA-256 by file name.
    """

    images: int
    about: dict[str, Any]
    sha256: dict[str, str]


def write(path: Path, content: Manifest) -> None:
    """Write the manifest of a checkpoint folder, and a file of its SHA-256."""
    text = json.dumps(content._asdict(), indent=1)
    atomic.put(path / NAME, text.encode())
    atomic.put(path / f"{NAME}.sha256", hashlib.sha256(text.encode()).hexdigest().encode())


def read(path: Path) -> Manifest:
    """Read and validate the manifest of a checkpoint, without its tensors.

    Raises:
        ValueError: the manifest is missing, damaged or invalid; the message names the file.
    """
    file = path / NAME
    try:
        text = atomic.read_regular(file, LARGEST)
        digest = atomic.read_regular(path / f"{NAME}.sha256", LARGEST_SUM).decode(errors="replace")
    except OSError as error:
        raise ValueError(unreadable(path, error)) from error
    verify_checksum(file, hashlib.sha256(text), digest)
    try:
        content = json.loads(text)
        header = Manifest(content["images"], content["about"], content["sha256"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{file} was not written by this package ({line(str(error), 100)})") from error
    images, about, sums = header
    if not isinstance(images, int) or not 0 <= images < 10**15:
        raise ValueError(f"{file} was not written by this package (it has images={brief(images)})")
    if not isinstance(about, dict) or not isinstance(sums, dict):
        raise ValueError(f"{file} was not written by this package (about and sha256 are not objects)")
    if not isinstance(about.get("validation"), int | float | None):
        raise ValueError(
            f"{file} was not written by this package (it has validation={brief(about['validation'])})"
        )
    for name, known in sums.items():
        if Path(name).name != name or not name.isprintable() or not isinstance(known, str):
            raise ValueError(f"{file} was not written by this package (it lists a file {brief(name)})")
    return header


def part_digest(sha256: Mapping[str, str], part: str) -> str:
    """Return the SHA-256 of a part of a checkpoint: that of its file, or of the list of its files' names and sums.

    Arguments:
        sha256: SHA-256 by file name.
        part: name of the part, such as ``ema``.

    Raises:
        ValueError: there is no file of the part.
    """
    sums = {name: value.strip() for name, value in sha256.items() if name.partition(".")[0] == part}
    if not sums:
        raise ValueError(f"the checkpoint lists no file of the part {part}")
    if len(sums) == 1:
        return next(iter(sums.values()))
    return hashlib.sha256("".join(f"{name} {sums[name]}\n" for name in sorted(sums)).encode()).hexdigest()


def verify_checksum(path: Path, digest: "hashlib._Hash", sha256: str) -> None:
    """Verify the checksum of a file.

    Raises:
        ValueError: the checksums differ.
    """
    if digest.hexdigest() != sha256.strip():
        raise ValueError(f"{path} is damaged: its checksum differs from the one written with it")


def unreadable(path: Path, error: OSError) -> str:
    """Return a one-line message about a checkpoint that cannot be read."""
    name = Path(error.filename).name if error.filename else "a file"
    if isinstance(error, FileNotFoundError):
        return f"the checkpoint {path} is incomplete: {name} is missing"
    return f"the checkpoint {path} cannot be read: {error.strerror or error}, {name}"


def brief(value: Any) -> str:
    """Return the representation of a value, shortened and printable."""
    return _SHORT.repr(value)


def line(text: str, most: int = LONGEST_MESSAGE) -> str:
    """Return a text in one printable line; where it is longer, its middle is left out."""
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    half = (most - 5) // 2
    return text if len(text) <= most else f"{text[:half]} ... {text[-half:]}"


def diff_config(old: Any, new: Any, name: str = "") -> list[str]:
    """Return the differences between two nested configurations, as ``name: old -> new``."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        return [
            line
            for key in keys
            for line in diff_config(old.get(key), new.get(key), f"{name}.{key}" if name else str(key))
        ]
    return [] if old == new else [f"{name}: {old} -> {new}"]
