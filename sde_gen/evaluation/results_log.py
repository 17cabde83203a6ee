"""Append-only results file, safe under crashes and concurrent writers."""

import fcntl
import json
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import BufferedRandom
from pathlib import Path
from typing import Any

from sde_gen.checkpoint.manifest import diff_config
from sde_gen.utils import atomic

Record = Mapping[str, Any]
"""One result: JSON-serializable values, and under ``image`` the number of the image it belongs to."""


HEADER_PREFIX = b'{"settings": '
"""Prefix of the header line of a results file."""


class ResultsLog:
    """A file of results, one JSON object a line, to which any number of processes append.

    The first line contains the settings of all results. Incomplete lines, after a kill or on a full disk, are ignored;
    a later result of an image replaces an earlier one.

    Arguments:
        path: the file.
        settings: all JSON-serializable settings that affect a result.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self.settings = json.loads(json.dumps(settings))
        self._first = json.dumps({"settings": self.settings}).encode() + b"\n"
        self._rows: dict[int, Record] = {}
        self._read = 0

    def begin(self, *, fresh: bool = False) -> None:
        """Start the file, or go on with what it holds; one process does this before any appends.

        Arguments:
            fresh: forget what it holds.

        Raises:
            ValueError: its results were computed under other settings, or under unknown
                ones; or it is not a results file of this package.
        """
        self._rows, self._read = {}, 0
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked() as file:
            first, rest = file.readline(), file.readlines()
            if not fresh and not HEADER_PREFIX.startswith(first[: len(HEADER_PREFIX)]):
                raise ValueError(
                    f"{self.path} is not a results log; choose another folder with out=..., or write over it with "
                    "fresh=true"
                )
            damaged = [line for line in rest if _row(line) is None]
            if fresh or len(damaged) == len(rest):  # no result in it, so nothing to lose
                file.truncate(0)
                _write(file, self._first)
            elif first != self._first:
                raise ValueError(self._mismatch_message(first))
            elif damaged:
                warnings.warn(
                    f"{self.path}: {len(damaged)} damaged lines are ignored; their results are computed again",
                    stacklevel=2,
                )

    def append(self, rows: Iterable[Record]) -> None:
        """Add results; once this returns they are on the disk.

        Raises:
            ValueError: meanwhile the file belongs to an evaluation under other settings.
            OSError: the disk is full, or the file is gone; results of before stay.
        """
        text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows).encode()
        try:
            with self._locked() as file:
                first = file.readline()
                if first != self._first:
                    raise ValueError(self._mismatch_message(first))
                file.seek(-1, os.SEEK_END)
                _write(file, text if file.read(1) == b"\n" else b"\n" + text)
        except OSError as error:  # of the write, or of closing the file, which tries once more
            why = f"{error.strerror}; results of before are kept, and the same command goes on"
            raise OSError(error.errno, why, str(self.path)) from error

    def rows(self) -> dict[int, Record]:
        """Return all results by image, including those of other processes; only new lines are read."""
        with self.path.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._read += len(line)
                row = _row(line)
                if row is not None:
                    self._rows[row["image"]] = row
        return self._rows

    @contextmanager
    def _locked(self) -> Iterator[BufferedRandom]:
        """Keep others from the file, read from its start, write at its end; a killed process leaves no lock."""
        with atomic.open_append(self.path) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError:  # a file system without locks: then only the kernel's append keeps lines apart
                pass
            file.seek(0)
            yield file

    def _mismatch_message(self, first: bytes) -> str:
        try:
            old = json.loads(first)["settings"]
            why = f"under other settings ({'; '.join(diff_config(old, self.settings))})"
        except (ValueError, KeyError, TypeError):
            why = "under unknown settings (damaged first line)"
        return (
            f"{self.path} holds results {why}, and results of two kinds have no common mean: choose another folder "
            "with out=..., give the old settings, or forget the old results with fresh=true"
        )


def _row(line: bytes) -> Record | None:
    """The result that a line holds; None where a kill, or the disk, left no whole one."""
    try:
        row = json.loads(line)
        return row if isinstance(row["image"], int) else None
    except (ValueError, KeyError, TypeError):
        return None


def _write(file: BufferedRandom, text: bytes) -> None:
    file.write(text)
    file.flush()
    os.fsync(file.fileno())
