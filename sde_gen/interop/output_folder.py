"""Atomic creation of an output folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sde_gen.utils import atomic


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
        with atomic.folder(out) as made:
            yield made
            require_absent(out)
    except OSError as error:
        raise ValueError(f"{out} could not be written ({error})") from error
