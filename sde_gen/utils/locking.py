"""One training at a time in a run folder."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sde_gen.utils import regular_file


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep a second training out of the folder while the block runs; a killed process leaves no lock behind.

    Raises:
        ValueError: another training is at work there.
        OSError: the lock is no regular file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ".lock"
    if path.exists():
        regular_file.check(path)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"another training is at work in {folder}; wait for its end or choose another run folder"
            ) from None
        except OSError:  # a file system without locks: then only care helps
            pass
        yield
