"""Index of the images in tar files, for random access."""

import json
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sde_gen.data.base import hash_fraction
from sde_gen.utils.atomic import check_regular

SUFFIXES = frozenset({"png", "jpg", "jpeg", "webp"})

PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
"""Magic bytes of compressed files."""

IMAGES = b"\x89PNG", b"\xff\xd8\xff", b"RIFF"
"""Magic bytes of image files."""

LONGEST = 2**24
"""Maximum size of a label file in bytes."""


class Members(NamedTuple):
    """Index of images in tar files: arrays with one entry per image.

    Attributes:
        shard: index of the tar file, int64.
        offset: offset of the image's first byte, int64.
        size: number of bytes, int64.
        label: class, int64; -1 without one.
        share: hash of the names of file and sample in [0, 1), by which splits are drawn, float64.
    """

    shard: NDArray[np.int64]
    offset: NDArray[np.int64]
    size: NDArray[np.int64]
    label: NDArray[np.int64]
    share: NDArray[np.float64]

    def rows(self, places: NDArray[np.int64] | NDArray[np.bool_]) -> "Members":
        """Select entries by index, in the given order."""
        shard, offset, size, label, drawn = self
        return Members(shard[places], offset[places], size[places], label[places], drawn[places])


def index_members(shards: Sequence[Path], *, field: str) -> Members:
    """Index the images in tar files from the headers of their members.

    A sample consists of the members of one file with the same key, their path up to the first dot of the file name: one
    image, ``key.png``, ``.jpg``, ``.jpeg`` or ``.webp``, and, for labeled data, ``key.cls`` with a number or
    ``key.json`` with a number in a field. Hidden files and folders are ignored.

    Source of the convention: Aizman, Maltby and Breuel, 2020, arXiv:2001.01858 (WebDataset).

    Arguments:
        shards: the files.
        field: name of the label in ``key.json``.

    Raises:
        ValueError: a file is not a tar file, is compressed or truncated, or contains an invalid image; or only some
            samples have a label.
    """
    parts = [_members(number, path, field) for number, path in enumerate(shards)]
    together = Members(
        shard=np.concatenate([part.shard for part in parts]),
        offset=np.concatenate([part.offset for part in parts]),
        size=np.concatenate([part.size for part in parts]),
        label=np.concatenate([part.label for part in parts]),
        share=np.concatenate([part.share for part in parts]),
    )
    if not len(together.label):
        raise ValueError(f"{shards[0]} and the other shards, {len(shards)} in all, contain no image")
    bare = together.label < 0
    if bare.any() and not bare.all():
        without, labeled = (shards[int(together.shard[bare == which][0])] for which in (True, False))
        raise ValueError(
            f"{int(bare.sum())} of {len(bare)} samples have no label, the first in {without}, but others have, the "
            f"first in {labeled}; every sample needs one, or none"
        )
    return together


def _members(number: int, path: Path, field: str) -> Members:
    """Index the images of one file."""
    samples = _samples(path, field)
    offset, size, label = (
        np.array(column, dtype=np.int64)
        for column in (
            [image.offset for image, _ in samples.values()],
            [image.size for image, _ in samples.values()],
            [label for _, label in samples.values()],
        )
    )
    drawn = np.array([hash_fraction(f"{path.name}/{key}") for key in samples], dtype=np.float64)
    return Members(np.full(len(label), number, dtype=np.int64), offset, size, label, drawn)


class _Image(NamedTuple):
    name: str
    offset: int
    size: int


def _samples(path: Path, field: str) -> dict[str, tuple[_Image, int]]:
    """Return images and labels of a file by key."""
    images: dict[str, _Image] = {}
    labels: dict[str, int] = {}
    check_regular(path)
    with path.open("rb") as file:
        begin = file.read(8)
        file.seek(0)
        for magic, name in PACKED.items():
            if begin.startswith(magic):
                raise ValueError(
                    f"{path} is compressed by {name}, so its images cannot be read at random; unpack it to a plain "
                    "tar file (images are compressed already)"
                )
        with _described(path):
            archive = tarfile.open(fileobj=file, mode="r:")
        tar = _TarFile(path, archive)
        while (member := _next(path, archive)) is not None:
            if not member.isreg() or _is_hidden(member.name):
                continue
            key, suffix = _key(member.name)
            if suffix in SUFFIXES:
                _add_image(tar, member, key, images)
            elif suffix in ("cls", "json"):
                _add_label(tar, member, key, None if suffix == "cls" else field, labels)
        file.seek(archive.offset)
        if file.read(512) != bytes(512):  # tarfile also accepts other content as the end
            raise ValueError(
                f"{path} has no end-of-archive marker: it is truncated or damaged; download it again"
            )
    return {key: (image, labels.get(key, -1)) for key, image in images.items()}


@contextmanager
def _described(path: Path) -> Iterator[None]:
    """Add the file's name to errors of invalid headers."""
    try:
        yield
    except (
        tarfile.TarError,
        ValueError,
        OverflowError,
        MemoryError,
    ) as error:  # the size field may contain any number
        raise ValueError(f"{path} is not a tar file, or truncated ({error}); download it again") from error


def _next(path: Path, archive: tarfile.TarFile) -> tarfile.TarInfo | None:
    with _described(path):
        member = archive.next()
        archive.members = []  # type: ignore[attr-defined]  # it would keep them all
        if member is not None and member.size < 0:  # tarfile would loop forever
            raise ValueError(f"{member.name} has {member.size} bytes")
    return member


class _TarFile(NamedTuple):
    """An open tar file and its path, for messages."""

    path: Path
    archive: tarfile.TarFile

    def content(self, member: tarfile.TarInfo, size: int) -> bytes:
        """Return the first bytes of a member."""
        stream = self.archive.extractfile(member)
        assert stream is not None, "a file"
        with _described(self.path):
            return stream.read(size)


def _is_hidden(name: str) -> bool:
    """Return whether a member is hidden, such as ``._a.png``."""
    return any(part.startswith(".") and part not in (".", "..") for part in name.split("/"))


def _key(name: str) -> tuple[str, str]:
    """Return key and lower-case suffix of a member, which its name has before and after the first dot."""
    folder, _, file = name.rpartition("/")
    stem, _, suffix = file.partition(".")
    return f"{folder}/{stem}" if folder else stem, suffix.lower()


def _add_image(tar: _TarFile, member: tarfile.TarInfo, key: str, images: dict[str, _Image]) -> None:
    """Add an image to those of all keys.

    Raises:
        ValueError: the key has an image already, or the member is not one.
    """
    if key in images:
        raise ValueError(f"{tar.path}: sample {key} has two images, {images[key].name} and {member.name}")
    if member.issparse():
        raise ValueError(f"{tar.path}: {member.name} is a sparse file; pack it without --sparse")
    if not tar.content(member, 4).startswith(IMAGES):
        raise ValueError(
            f"{tar.path}: {member.name} is not a PNG, JPEG or WebP image; leave it out of the shard"
        )
    images[key] = _Image(member.name, member.offset_data, member.size)


def _add_label(
    tar: _TarFile, member: tarfile.TarInfo, key: str, field: str | None, labels: dict[str, int]
) -> None:
    """Add a label to those of all keys.

    Arguments:
        tar: the file.
        member: a file with a number, or with JSON.
        key: key of the sample.
        field: name of the label in JSON, whose absence means no label; None for a file with a number.
        labels: labels by key.

    Raises:
        ValueError: the key has another label already, or the member has none.
    """
    if member.size > LONGEST:
        raise ValueError(
            f"{tar.path}: {member.name} has {member.size:,} bytes, too many for a label; leave it out of the shard"
        )
    text = tar.content(member, member.size)
    try:
        value = int(text) if field is None else json.loads(text).get(field)
    except (ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"{tar.path}: {member.name} contains no label ({error})") from error
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**31:
        raise ValueError(
            f"{tar.path}: {member.name} has the label {value!r}; labels are integers from 0 to 2^31 - 1"
        )
    if labels.setdefault(key, value) != value:
        raise ValueError(f"{tar.path}: sample {key} has two labels, {labels[key]} and {value}")


def name_of(path: Path, offset: int) -> str:
    """Return the name of the member at an offset, for error messages."""
    with tarfile.open(path, "r:") as archive:
        return next(member.name for member in archive if member.offset_data == offset)
