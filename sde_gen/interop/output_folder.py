"""A folder that appears whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sde_gen.utils import atomic


def require_absent(out: Path) -> None:
    """Check that there is nothing at a place, not even a link to nowhere.

    Raises:
        ValueError: there is.
    """
    if out.exists() or out.is_symlink():
        raise ValueError(f"{out} is there already; choose another folder with out=...")


@contextmanager
def atomic_directory(out: Path) -> Iterator[Path]:
    """Make a folder beside its place, to be filled, and move it there in the end; after any error nothing is left.

    Raises:
        ValueError: there is something at the place, or nothing can be written there.
    """
    require_absent(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic.folder(out) as made:
            yield made
            require_absent(out)
    except OSError as error:
        raise ValueError(f"{out} could not be written ({error})") from error
