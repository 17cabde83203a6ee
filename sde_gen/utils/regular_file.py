"""Regular files alone: a pipe would be waited for, and a device never ends."""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def check(path: Path, most: int | None = None) -> None:
    """Refuse what is no regular file, or leads to none, or is too large.

    Arguments:
        path: the file.
        most: its bytes, at most.

    Raises:
        OSError: it is, or it cannot be read; its ``filename`` is the path.
    """
    _check(os.stat(path), path, most)


def opened(path: Path, most: int | None = None) -> BinaryIO:
    """Open a regular file to be read; the arguments and errors are those of :func:`check`."""
    check(path, most)
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # should it have become a pipe meanwhile
    try:
        _check(os.fstat(number), path, most)
        return os.fdopen(number, "rb")
    except OSError:
        os.close(number)
        raise


def content(path: Path, most: int) -> bytes:
    """Return all bytes of a regular file; the arguments and errors are those of :func:`check`."""
    with opened(path, most) as file:
        data = file.read(most + 1)
    if len(data) > most:  # some files of the kernel do not report their sizes
        raise _too_large(path, most)
    return data


def _check(status: os.stat_result, path: Path, most: int | None) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    if most is not None and status.st_size > most:
        raise _too_large(path, most)


def _too_large(path: Path, most: int) -> OSError:
    return OSError(errno.EFBIG, f"More than {most:,} bytes", str(path))
