"""Parts of a run inside its folder: paths of a stored configuration that begin with ``parts/``."""

import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from sde_gen.checkpoint.manifest import brief
from sde_gen.interop.converted_model import PARTS
from sde_gen.utils.atomic import create, naming, put

PLACES = ("path", "run", "tokenizer")
"""Arguments of constructors that name a folder or a file."""


def located(node: Any, folder: Path) -> Any:
    """Return plain data with the paths of parts led into the run folder.

    Raises:
        ValueError: a path leaves the folder.
    """
    if isinstance(node, list):
        return [located(each, folder) for each in node]
    if not isinstance(node, dict):
        return node
    return {
        key: _located(value, folder)
        if key in PLACES and isinstance(value, str) and value.startswith(PARTS)
        else located(value, folder)
        for key, value in node.items()
    }


def _located(path: str, folder: Path) -> str:
    if ".." in PurePosixPath(path).parts or "\0" in path:
        raise ValueError(f"the stored configuration names {brief(path)}, which leaves the run folder")
    return str(folder / path)


def with_skipped_layers(node: Any, layers: int) -> Any:
    """Return plain data in which every encoder CLIP leaves out some more of its last layers."""
    if isinstance(node, list):
        return [with_skipped_layers(each, layers) for each in node]
    if not isinstance(node, dict):
        return node
    found = {key: with_skipped_layers(value, layers) for key, value in node.items()}
    if str(node.get("_target_")).rpartition(".")[2] == "CLIP":
        found["skip"] = int(node.get("skip", 0)) + layers
    return found


def with_hashes(node: Any, hashes: Mapping[str, str]) -> Any:
    """Return plain data in which every part that is a run, and whose SHA-256 is null, is named by it.

    Arguments:
        node: the configuration.
        hashes: SHA-256 of the weights by the path of the run.
    """
    if isinstance(node, list):
        return [with_hashes(each, hashes) for each in node]
    if not isinstance(node, dict):
        return node
    found = {key: with_hashes(value, hashes) for key, value in node.items()}
    if found.get("run") in hashes and found.get("sha256", "") is None:
        found["sha256"] = hashes[found["run"]]
    return found


def copy(files: Mapping[str, Path], contents: Mapping[str, bytes], made: Path, out: Path) -> None:
    """Copy and write files to their paths inside a run folder that is being made.

    Raises:
        OSError: a file cannot be read or written; the message names it.
    """
    for place, source in files.items():
        target = made / place
        target.parent.mkdir(parents=True, exist_ok=True)
        with source.open("rb") as reading, naming(made, out / place), create(target) as writing:
            shutil.copyfileobj(reading, writing, 2**22)
    for place, content in contents.items():
        target = made / place
        target.parent.mkdir(parents=True, exist_ok=True)
        with naming(made, out / place):
            put(target, content)
