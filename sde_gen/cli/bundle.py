"""Pack a run and the runs that it names into one folder: ``sde-gen bundle run=runs/... out=...``."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from sde_gen.checkpoint import manifest
from sde_gen.cli import console, run_reference
from sde_gen.cli.app import Command
from sde_gen.cli.run import SAMPLED, Run, load_run
from sde_gen.interop.diffusers.latent_pipeline import SOURCE
from sde_gen.utils import atomic

FOLDERS = {"path": "sha256", "tokenizer": "tokenizer_sha256"}
"""Settings of an encoder of texts that name a folder or a file, and those that hold its digest."""

PREFIX = f"{run_reference.PARTS}/"

PART = "ema"
"""Part of a checkpoint that is packed: the averaged weights."""


def bundle(config: DictConfig) -> None:
    """Copy the averaged weights of a run and of its parts, and open the copy before it gets its name."""
    out = Path(config.out)
    atomic.require_absent(out)
    given = {**config, "device": "cpu"}
    run = load_run(OmegaConf.create(given), *SAMPLED)
    with atomic.atomic_directory(out) as made:
        packed = _pack(run, made)
        copy = load_run(
            OmegaConf.create({**given, "run": str(made), "checkpoint": None, "parts": []}), *SAMPLED
        )
        _compare(run, copy, made)
        size = sum(path.stat().st_size for path in made.rglob("*") if path.is_file())
    console.print_table(
        f"bundle of {run.folder}",
        {
            **{place or "run": f"{of.folder}, SHA-256 {of.sha256[:16]}..." for place, of in packed.items()},
            "bytes": f"{size:,}",
        },
        {"folder": out},
    )


def _pack(run: Run, made: Path, place: str = "") -> dict[str, Run]:
    """Write a run and its parts into a folder; return the runs by their places in the folder.

    Arguments:
        run: the run.
        made: folder of the bundle.
        place: path of the run in it.
    """
    inside = {key: _place(run, key, part) for key, part in run.named.items()}
    _copy(run, made / place, inside)
    for path in sorted((run.folder / SOURCE).rglob("*")):
        if path.is_file():
            _put(path, made / place / path.relative_to(run.folder))
    packed = {place: run}
    for key, part in run.named.items():
        packed |= _pack(part, made, f"{place}/{inside[key]}".lstrip("/"))
    return packed


def _place(run: Run, key: str, part: Run) -> str:
    """Return the path in the bundle of a part: its own where it lies inside the run."""
    if part.folder.is_relative_to(run.folder):
        return str(part.folder.relative_to(run.folder))
    return f"{PREFIX}{key}"


def _copy(run: Run, target: Path, inside: Mapping[str, str]) -> None:
    """Write the averaged weights of a run, with the places of its parts in its configuration."""
    source = run.checkpoint
    found = manifest.read(source)
    sums = {name: sha256 for name, sha256 in found.sha256.items() if name.partition(".")[0] == PART}
    about = {**found.about, "config": _with_places(found.about["config"], inside)}
    about = {key: packed_files(value, run.folder, target) for key, value in about.items()}
    folder = target / "checkpoints" / source.name
    folder.mkdir(parents=True)
    for name in sums:
        _put(source / name, folder / name)
    manifest.write(folder, found._replace(about=about, sha256=sums))


def _with_places(config: Mapping[str, Any], inside: Mapping[str, str]) -> dict[str, Any]:
    """Return a stored configuration that names its parts by their places in the bundle."""
    return {key: {**node, "run": inside[key]} if key in inside else node for key, node in config.items()}


def packed_files(node: Any, source: Path, target: Path) -> Any:
    """Copy the folders and files of encoders of texts into a bundle; return plain data with their places there.

    Arguments:
        node: configuration or what the conditioning has learned, which name each by path and SHA-256.
        source: folder of the run.
        target: folder of the bundle.
    """
    if isinstance(node, list):
        return [packed_files(each, source, target) for each in node]
    if not isinstance(node, dict):
        return node
    found = {key: packed_files(value, source, target) for key, value in node.items()}
    for key, digest in FOLDERS.items():
        path = found.get(key)
        if isinstance(path, str) and (found.get(digest) or path.startswith(PREFIX)):
            # others may have folders of the same name, such as text_encoder
            place = path if path.startswith(PREFIX) else f"{PREFIX}{Path(path).name}-{str(found[digest])[:8]}"
            found[key] = _with_files(source / path, place, target)
    return found


def _with_files(source: Path, place: str, target: Path) -> str:
    """Copy a file, or the files of a folder, to a place in a bundle, unless it is there; return the place."""
    if not (target / place).exists():
        pairs = [(source, target / place)]
        if source.is_dir():
            pairs = [
                (path, target / place / path.name) for path in sorted(source.iterdir()) if path.is_file()
            ]
        for origin, copy in pairs:
            _put(origin, copy)
    return place


def _put(origin: Path, copy: Path) -> None:
    """Copy a regular file to a new one."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    with atomic.open_regular(origin) as reading, atomic.create(copy) as writing:
        shutil.copyfileobj(reading, writing, 2**22)


def _compare(run: Run, copy: Run, made: Path) -> None:
    """Raise an error unless a copy holds the same runs, all of them inside the folder."""
    if (
        copy.sha256 != run.sha256
        or not copy.folder.is_relative_to(made)
        or copy.named.keys() != run.named.keys()
    ):
        raise ValueError(f"{copy.folder} is not a copy of {run.folder}; its weights have changed meanwhile")
    for key, part in run.named.items():
        _compare(part, copy.named[key], made)


main = Command(name="bundle", function=bundle)
