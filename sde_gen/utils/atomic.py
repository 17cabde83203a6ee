"""Atomic writes of files and folders, locks of folders, and reads of regular files alone.

Data are written to a temporary path in the same folder, ``.<name>.<8 hexadecimal digits>.new``, flushed to the disk
and renamed, so a killed process or a full disk leaves the previous content. A symbolic link is replaced, and what it
leads to stays as it was: a run folder of somebody else may hold a link to any file of the user.

The writer holds a lock on the temporary path, by which the next writer in that folder distinguishes leftovers of a
killed process, which it deletes, from files that another process is writing.
"""

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedRandom, BufferedWriter
from pathlib import Path
from typing import BinaryIO

LONGEST = 200
"""Bytes of a name that the temporary name repeats; file systems allow 255."""

ASIDE = re.compile(r"\..+\.[0-9a-f]{8}\.new", re.DOTALL)
"""Pattern of temporary names."""

ABANDONED = 24 * 3600
"""Seconds without a change after which a temporary file counts as abandoned, on file systems without locks."""


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, lie on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def write(path: Path, content: bytes | str) -> None:
    """Write a file whole or not at all.

    Raises:
        OSError: it could not be written; the message names it, and the previous content is untouched.
    """
    with writing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to write inside the block, renamed to ``path`` at the end and deleted after any error.

    Raises:
        OSError: it could not be written; the message names it, and the previous content is untouched.
    """
    try:
        with _temporary(path, _new_file, os.unlink) as (tmp_path, number):
            with open(os.dup(number), "w+b") as file:
                yield file
                file.flush()
                os.fsync(number)
            os.rename(tmp_path, path)
            flush(path.parent)
    except OSError as error:
        if error.errno is None:  # raised by another library, with a more detailed message
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def folder(path: Path) -> Iterator[Path]:
    """Yield a folder to fill inside the block, renamed to ``path`` at the end and deleted after any error.

    Its files are made by :func:`create` or :func:`put`.

    Raises:
        OSError: it could not be written, or there is something at its place.
    """
    with scratch(path) as tmp_path:
        yield tmp_path
        for content in [*tmp_path.rglob("*"), tmp_path]:
            flush(content)
        os.rename(tmp_path, path)
        flush(path.parent)


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """Yield a temporary folder in the parent folder of a path, deleted after the block.

    Raises:
        OSError: a file in it could not be written; the message names the path instead.
    """
    with _temporary(path, _new_folder, shutil.rmtree) as (tmp_path, _), naming(tmp_path, path):
        yield tmp_path


@contextmanager
def naming(tmp_path: Path, path: Path) -> Iterator[None]:
    """Raise an error about a file in a temporary folder as one about the path that the folder stands for."""
    try:
        yield
    except OSError as error:
        inside = isinstance(error.filename, str | Path) and Path(error.filename).is_relative_to(tmp_path)
        if error.errno is None or not inside:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def create(path: Path) -> BufferedWriter:
    """Open a new file in a temporary folder; :func:`folder` flushes it."""
    return path.open("xb")


def put(path: Path, content: bytes) -> None:
    """Write a new file in a temporary folder and flush it to the disk.

    Raises:
        OSError: it could not be written; the message names it.
    """
    with putting(path) as file:
        file.write(content)


@contextmanager
def putting(path: Path) -> Iterator[BinaryIO]:
    """Yield a new file in a temporary folder to write inside the block, flushed to the disk at the end.

    Raises:
        OSError: it could not be written; the message names it.
    """
    try:
        with create(path) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def sweep(folder: Path) -> None:
    """Delete temporary files and folders that killed processes left in a folder."""
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            if ASIDE.fullmatch(name):
                _delete_abandoned(folder / name)


@contextmanager
def _temporary(
    path: Path, make: Callable[[Path], int], delete: Callable[[Path], object]
) -> Iterator[tuple[Path, int]]:
    """Create a temporary file or folder next to a path, locked inside the block; delete it unless it was renamed."""
    sweep(path.parent)
    while True:
        name = os.fsdecode(os.fsencode(path.name)[:LONGEST])
        tmp_path = path.with_name(f".{name}.{secrets.token_hex(4)}.new")
        number = make(tmp_path)
        with contextlib.suppress(OSError):  # a file system without locks: its age decides
            fcntl.flock(number, fcntl.LOCK_EX)
        if _is_same(tmp_path, number):  # else another process deleted it as abandoned before it was locked
            break
        os.close(number)
    try:
        yield tmp_path, number
    finally:
        with contextlib.suppress(OSError):
            if _is_same(tmp_path, number):
                delete(tmp_path)
        os.close(number)


def _new_file(path: Path) -> int:
    return os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)


def _new_folder(path: Path) -> int:
    os.mkdir(path)
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY)


def _is_same(path: Path, number: int) -> bool:
    """Return whether a path still names the opened file or folder."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(number))
    except FileNotFoundError:
        return False


def _delete_abandoned(path: Path) -> None:
    """Delete a temporary file or folder unless its writer holds the lock."""
    with contextlib.suppress(OSError):
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            about = os.fstat(number)
            if not (stat.S_ISREG(about.st_mode) or stat.S_ISDIR(about.st_mode)):
                return
            try:
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            except OSError:  # a file system without locks
                if time.time() - about.st_mtime < ABANDONED:
                    return
            if _is_same(path, number):
                (shutil.rmtree if stat.S_ISDIR(about.st_mode) else os.unlink)(path)
        finally:
            os.close(number)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Keep a second training out of the folder while the block runs; a killed process leaves no lock behind.

    Raises:
        ValueError: another training is at work there.
        OSError: the lock is no regular file, or a link.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open_append(folder / ".lock") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"another training is at work in {folder}; wait for its end or choose another run folder"
            ) from None
        except OSError:  # a file system without locks: then only care helps
            pass
        yield


def check_regular(path: Path, most: int | None = None) -> None:
    """Raise an error for what is not a regular file, or leads to none, or is too large.

    Arguments:
        path: the file.
        most: its bytes, at most.

    Raises:
        OSError: it is, or it cannot be read; its ``filename`` is the path.
    """
    _check_status(os.stat(path), path, most)


def open_regular(path: Path, most: int | None = None) -> BinaryIO:
    """Open a regular file to be read; the arguments and errors are those of :func:`check_regular`."""
    check_regular(path, most)
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # should it have become a pipe meanwhile
    try:
        _check_status(os.fstat(number), path, most)
        return os.fdopen(number, "rb")
    except OSError:
        os.close(number)
        raise


def read_regular(path: Path, most: int) -> bytes:
    """Return all bytes of a regular file; the arguments and errors are those of :func:`check_regular`."""
    with open_regular(path, most) as file:
        data = file.read(most + 1)
    if len(data) > most:  # some files of the kernel do not report their sizes
        raise _too_large(path, most)
    return data


def open_append(path: Path) -> BufferedRandom:
    """Open a regular file to be read, and written at its end; a missing one is made.

    Raises:
        OSError: it is none, or a symbolic link, which is not followed; its ``filename`` is the path.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        number = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            why = "Is a symbolic link, whose target is not written: put a file in its place, or delete it"
            raise OSError(errno.ELOOP, why, str(path)) from error
        raise
    try:
        _check_status(os.fstat(number), path, None)
        return os.fdopen(number, "a+b")
    except OSError:
        os.close(number)
        raise


def _check_status(status: os.stat_result, path: Path, most: int | None) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    if most is not None and status.st_size > most:
        raise _too_large(path, most)


def _too_large(path: Path, most: int) -> OSError:
    return OSError(errno.EFBIG, f"More than {most:,} bytes", str(path))


def require_absent(out: Path) -> None:
    """Check that a path does not exist, not even as a broken link.

    Raises:
        ValueError: the path exists.
    """
    if out.exists() or out.is_symlink():
        raise ValueError(f"{out} already exists; choose another folder with out=...")


@contextmanager
def atomic_directory(out: Path) -> Iterator[Path]:
    """Yield a temporary folder and rename it to its final path on success; remove it after any error.

    Raises:
        ValueError: the path exists or cannot be written.
    """
    require_absent(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with folder(out) as made:
            yield made
            require_absent(out)
    except OSError as error:
        raise ValueError(f"{out} could not be written ({error})") from error
