"""Atomic creation of folders by one of several processes."""

import contextlib
import errno
import fcntl
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from sde_gen.utils import atomic

HEADER = "header.json"
"""Name of the file with the folder's settings and summary, which is written last."""


def build_atomically(
    folder: Path, settings: Mapping[str, Any], fill: Callable[[Path], Mapping[str, Any]]
) -> dict[str, Any]:
    """Open a folder built with the same settings, or build it if it is missing.

    The build is atomic. Of several concurrent processes, with or without ``torchrun``, one builds the folder and the
    others wait.

    Arguments:
        folder: the folder.
        settings: all settings that determine the content, as plain JSON.
        fill: function that writes the content into a given folder and returns a summary as plain JSON.

    Returns:
        Summary that ``fill`` returned when the folder was built.

    Raises:
        ValueError: the folder was built with other settings, is damaged, or has other content.
        OSError: the disk is full; the partial folder is removed.
    """
    folder = folder.resolve()  # resolves links and "."
    if not (folder / HEADER).exists():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ValueError(f"{folder} exists and was not built by this package; choose another folder")
        _make(folder, settings, fill)
    with checked_read(folder):
        atomic.check_regular(folder / HEADER)
        header = json.loads((folder / HEADER).read_bytes())
        made, content = dict(header["settings"]), dict(header["content"])
    expected = json.loads(json.dumps(settings))
    changed = [
        f"{key}: {made.get(key)} there, {expected.get(key)} here"
        for key in dict.fromkeys([*made, *expected])
        if made.get(key) != expected.get(key)
    ]
    if changed:
        listing = "; ".join(changed[:5]) + (f"; and {len(changed) - 5} more" if len(changed) > 5 else "")
        raise ValueError(
            f"{folder} was built with other settings ({listing}); choose another folder, or delete it to "
            "rebuild it"
        )
    return content


@contextmanager
def checked_read(folder: Path) -> Iterator[None]:
    """Read a file or summary of the folder.

    Raises:
        ValueError: the content is damaged; the message contains the remedy.
    """
    try:
        yield
    except (OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile) as error:
        why = f"no {error}" if isinstance(error, KeyError) else f"{error}"
        raise ValueError(f"{folder} is damaged ({why}); delete it to rebuild it") from error


def _make(folder: Path, settings: Mapping[str, Any], fill: Callable[[Path], Mapping[str, Any]]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _exclusive_lock(folder.with_name(f".{folder.name}.lock")):
        if (folder / HEADER).exists():  # another process has built it in the meantime
            return
        try:
            with atomic.folder(folder) as tmp_path:
                header = {"settings": settings, "content": fill(tmp_path)}
                atomic.put(tmp_path / HEADER, json.dumps(header, indent=1).encode())
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST) and (folder / HEADER).exists():
                return  # without locks: another process was faster
            if error.errno is None:  # of another library
                raise
            why = f"{error.strerror or error}; {folder} was not built, and no part of it remains"
            raise OSError(error.errno, why, str(error.filename or folder)) from error


@contextmanager
def _exclusive_lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock between processes, which is released if the process is killed."""
    with atomic.open_append(path) as file:
        # without locks each process builds the folder, and the first to finish renames it
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
