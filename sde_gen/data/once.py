"""Folders that are made once, by one process, and whole or not at all."""

import contextlib
import fcntl
import glob
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from sde_gen._disk import flush

HEADER = "header.json"
"""The file that is written last: what the folder was made of, and what it holds."""


def once(
    folder: Path, settings: Mapping[str, Any], fill: Callable[[Path], Mapping[str, Any]]
) -> dict[str, Any]:
    """Open a folder that was made under the same settings; make it if it is not there.

    It grows beside its place, is flushed to the disk and takes its name in one step, so it is there as a whole or
    not at all. Of several processes, of one ``torchrun`` or of none, one makes it and the others wait.

    Arguments:
        folder: the folder.
        settings: all that decides over the content, as far as JSON can say it.
        fill: writes the content into the folder that it is given, and says in JSON what is to be known of it.

    Returns:
        What ``fill`` said when the folder was made.

    Raises:
        ValueError: the folder was made under other settings, is damaged, or is somebody else's.
        OSError: the disk is full; nothing is left behind.
    """
    folder = folder.resolve()  # the current folder, and what a link leads to, have names too
    if not (folder / HEADER).exists():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ValueError(f"{folder} exists and was not made by us; choose another folder")
        _make(folder, settings, fill)
    with reading(folder):
        header = json.loads((folder / HEADER).read_bytes())
        made, content = dict(header["settings"]), dict(header["content"])
    asked = json.loads(json.dumps(settings))
    changed = [
        f"{key}: {made.get(key)} there, {asked.get(key)} here"
        for key in dict.fromkeys([*made, *asked])
        if made.get(key) != asked.get(key)
    ]
    if changed:
        listing = "; ".join(changed[:5]) + (f"; and {len(changed) - 5} more" if len(changed) > 5 else "")
        raise ValueError(
            f"{folder} was made under other settings ({listing}); choose another folder, or delete it to "
            "make it again"
        )
    return content


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Read what the folder holds.

    Raises:
        ValueError: it is not what was written; the message says what to do.
    """
    try:
        yield
    except (OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile) as error:
        why = f"no {error}" if isinstance(error, KeyError) else f"{error}"
        raise ValueError(f"{folder} is damaged ({why}); delete it, it is made again") from error


def _make(folder: Path, settings: Mapping[str, Any], fill: Callable[[Path], Mapping[str, Any]]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    growing = f".{folder.name}.growing."
    with _alone(folder.with_name(f".{folder.name}.lock")) as locked:
        if (folder / HEADER).exists():  # another process has made it meanwhile
            return
        for killed in folder.parent.glob(f"{glob.escape(growing)}*") if locked else ():
            shutil.rmtree(killed)
        aside = Path(tempfile.mkdtemp(prefix=growing, dir=folder.parent))
        try:
            content = fill(aside)
            (aside / HEADER).write_text(json.dumps({"settings": settings, "content": content}, indent=1))
            for path in [*aside.iterdir(), aside]:
                flush(path)
            aside.chmod(0o755)  # others may read it, unlike what mkdtemp makes
            with contextlib.suppress(FileExistsError):  # without locks: another one was faster
                _rename(aside, folder)
            flush(folder.parent)
        except OSError as error:
            if error.errno is None:  # of another library
                raise
            why = f"{error.strerror or error}; {folder} is not made, and nothing of it is left"
            raise OSError(error.errno, why, str(error.filename or folder)) from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def _rename(aside: Path, folder: Path) -> None:
    try:
        os.rename(aside, folder)
    except OSError:
        if (folder / HEADER).exists():
            raise FileExistsError(folder) from None
        raise


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Wait until no other process is in the block; a killed one leaves no lock behind.

    Yields:
        Whether the file system has locks.
    """
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            locked = True
        except OSError:  # no locks here: each process makes the folder, and the first to be done names it
            locked = False
        yield locked
