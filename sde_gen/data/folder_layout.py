"""Discovery of the images of a folder, with classes and splits from its sub-folders."""

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})

TRAIN = ("train", "training")
"""Folder names of the training split."""

TEST = ("test", "testing", "val", "valid", "validation")
"""Folder names of the test split in order of precedence."""


class ImageEntry(NamedTuple):
    """Image file of a folder.

    Attributes:
        name: path relative to the root folder.
        label: name of the class; None for an image outside class folders.
        test: True for the test split; None if the folders define no splits.
    """

    name: Path
    label: str | None
    test: bool | None


class FolderLayout(NamedTuple):
    """All images of a folder.

    Attributes:
        images: the files.
        labels: names of the classes, sorted; empty if an image has no class.
        notes: messages about ambiguous folders and their interpretation.
    """

    images: list[ImageEntry]
    labels: list[str]
    notes: list[str]


def find_images(root: Path, *, train: str | None = None, test: str | None = None) -> FolderLayout:
    """Find the images of a folder; hidden names are ignored, links are followed.

    Arguments:
        root: the folder.
        train: sub-folder of the training split; None looks for the names :data:`TRAIN` and :data:`TEST`.
        test: sub-folder of the test split; None if it is to be drawn.

    Raises:
        ValueError: a folder is missing or cannot be read, or it is not clear whether sub-folders are splits.
    """
    loose, folders = _entries(root)
    splits, notes = _splits(root, folders, train, test)
    if splits is None:
        images = _split(root, root, None)
    else:
        held_out = None if splits[1] is None else True
        images = _split(root, root / splits[0], None if held_out is None else False)
        if splits[1] is not None:
            images += _split(root, root / splits[1], held_out)
        if loose:
            notes.append(f"{_some(loose)} beside the splits left out")
    labels = sorted({image.label for image in images if image.label is not None})
    bare = sorted(image.name.as_posix() for image in images if image.label is None)
    if bare and labels:
        notes.append(
            f"{_some(bare)} in no folder of a class, beside {_some(labels)}: so no image has a label; to train with "
            "classes move it into one, or away"
        )
    if bare:
        labels = []
    if labels and splits is None:
        empty = [name for name in folders if name not in labels]
        notes += [f"no image in {_some(empty)}, so that they are no classes"] if empty else []
    return FolderLayout(images, labels, notes)


def files(top: Path, *above: Path) -> Iterator[Path]:
    """Iterate over all files below a folder except hidden ones; each folder is visited once, despite links.

    Arguments:
        top: the folder.
        above: parent folders, into which links are not followed.

    Raises:
        ValueError: a folder cannot be read.
    """
    visited = {_identity(folder) for folder in above}
    waiting = deque([top])
    while waiting:
        for place, folders, names in os.walk(waiting.popleft(), onerror=_raise_unreadable):
            folder = Path(place)
            if _identity(folder) in visited:
                folders.clear()
                continue
            visited.add(_identity(folder))
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            waiting.extend(folder / name for name in folders if (folder / name).is_symlink())
            yield from (folder / name for name in sorted(names) if not name.startswith("."))


def _split(root: Path, base: Path, test: bool | None) -> list[ImageEntry]:
    """Return the images of one split, or of the whole folder."""
    loose, folders = _entries(base)
    images = [ImageEntry((base / name).relative_to(root), None, test) for name in loose]
    above = {root, base, *root.resolve().parents}
    for label in folders:
        images += [
            ImageEntry(path.relative_to(root), label, test)
            for path in files(base / label, *above)
            if path.suffix.lower() in SUFFIXES
        ]
    return images


def _splits(
    root: Path, folders: list[str], train: str | None, test: str | None
) -> tuple[tuple[str, str | None] | None, list[str]]:
    """Return the folders of both splits, or None if the folders are classes, and notes for the user."""
    if train is not None or test is not None:
        missing = [f"{root / name} is not there" for name in (train, test) if name and name not in folders]
        if train is None or train == test:
            missing = ["data.test=... needs another folder as data.train=..."]
        if missing or train is None:
            raise ValueError(f"{missing[0]}; the folders of {root} are {', '.join(folders) or 'none'}")
        return (train, test), []
    holding = [name for name in folders if _holds(root, name)]
    trains = [name for name in holding if name.lower() in TRAIN]
    tests = sorted(
        (name for name in holding if name.lower() in TEST), key=lambda name: (TEST.index(name.lower()), name)
    )
    others = [name for name in holding if name not in (*trains, *tests)]
    if len(trains) != 1 or (others and not tests):  # a class of trains, among others
        return None, []
    if others:
        raise ValueError(
            f"{root} holds the folders {', '.join((*trains, *tests))} of splits beside {_some(others)}; name the "
            f"splits with data.train={trains[0]} data.test={tests[0]}, and the rest is left out"
        )
    if not tests:
        return (trains[0], None), [f"{trains[0]} is taken as the training split, not as a class"]
    notes = [f"{trains[0]} and {tests[0]} are taken as the splits, not as classes"]
    notes += [f"{', '.join(tests[1:])} left out (data.test=... takes another)"] if tests[1:] else []
    return (trains[0], tests[0]), notes


def _holds(root: Path, name: str) -> bool:
    """Return True if there is an image below a sub-folder."""
    paths = files(root / name, root, *root.resolve().parents)
    return any(path.suffix.lower() in SUFFIXES for path in paths)


def _entries(folder: Path) -> tuple[list[str], list[str]]:
    """List the images directly in a folder and its sub-folders, without hidden names."""
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        _raise_unreadable(error)
    folders = [name for name in names if (folder / name).is_dir()]
    rest = sorted(set(names) - set(folders))
    return [name for name in rest if Path(name).suffix.lower() in SUFFIXES], folders


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _raise_unreadable(error: OSError) -> NoReturn:
    raise ValueError(
        f"{error.filename} cannot be read ({error.strerror}); change its permissions, or leave it out"
    ) from error


def _some(names: list[str]) -> str:
    """Abbreviate a list of names to the first few and their number."""
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
