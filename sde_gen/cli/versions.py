"""Versions of the numerical packages, and the commit of a checkout."""

import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

from sde_gen import __version__


def package_versions() -> dict[str, str]:
    """Return the versions of the numerical packages, and the commit in a checkout."""
    found = {name: version(name) for name in ("torch", "torchdiffeq", "torchsde", "numpy", "scipy")}
    return {"sde_gen": __version__, **found, **_own_commit()}


@cache
def _own_commit() -> dict[str, str]:
    """Return the commit of the code that this process runs, asked of git once."""
    return _commit(Path(__file__).resolve().parents[2])


def _commit(checkout: Path) -> dict[str, str]:
    """Return the commit, if the package lies in its own checkout and git is installed; ``+`` if files were changed."""
    git = ["git", "-C", str(checkout)]
    try:
        top, commit = _output_lines([*git, "rev-parse", "--show-toplevel", "HEAD"])
        changed = _output_lines([*git, "status", "--porcelain", "--untracked-files=no"])
    except (OSError, subprocess.CalledProcessError):
        return {}
    # an environment inside another project's checkout has that project's commit
    return {"commit": commit + ("+" if changed else "")} if Path(top).resolve() == checkout else {}


def _output_lines(command: list[str]) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
