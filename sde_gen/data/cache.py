"""Memory-mapped cache of decoded images, for data sets larger than memory."""

import hashlib
import math
from array import array
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sde_gen.data.atomic_build import build_atomically, checked_read
from sde_gen.data.base import Dataset, Splits
from sde_gen.data.lazy_images import LazyImages
from sde_gen.utils.atomic import check_regular, create
from sde_gen.utils.types import Shape

if TYPE_CHECKING:
    from sde_gen.data.streaming import ImageStream


class MemmapImages(LazyImages):
    """Images stored contiguously in a memory-mapped file.

    The operating system's page cache holds one copy for all processes of a machine and evicts it under memory pressure.

    Arguments:
        path: the file.
        shape: (N, *event).
        fingerprint: SHA-256 of the content.

    Raises:
        ValueError: the file has another size.
    """

    def __init__(self, path: Path, shape: Shape, fingerprint: str) -> None:
        size = path.stat().st_size
        if size != math.prod(shape):
            raise ValueError(f"{path} has {size} bytes, not {math.prod(shape)}")
        self._shape, self._fingerprint = shape, fingerprint
        self._map = np.memmap(path, dtype=np.uint8, mode="r", shape=shape)

    @property
    def shape(self) -> Shape:
        """Return the shape (N, *event)."""
        return self._shape

    @property
    def fingerprint(self) -> str:
        """Return shape and SHA-256 of the content."""
        return f"{self._shape}{self._fingerprint}"

    def read(self, places: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        """Copy rows of the mapped file."""
        self._map.take(places, axis=0, out=out, mode="clip")  # "raise" would copy twice; places are checked


class _Part:
    """Writer that appends the images of a split to a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.labels = array("q")
        self.sum = hashlib.sha256()
        self.shape: Shape = ()
        self.count = 0

    def __enter__(self) -> "_Part":
        self.file = create(self.path)  # not mapped: writing to a map of a full disk kills the process
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def append(self, image: Tensor, label: int | None, classes: int) -> None:
        """Append an image and its label."""
        if label is not None:
            if not 0 <= label < classes:
                raise ValueError(f"label {label} lies outside the {classes} classes 0 to {classes - 1}")
            self.labels.append(label)
        content = image.contiguous().numpy().tobytes()
        self.file.write(content)
        self.sum.update(content)
        self.shape = tuple(image.shape)
        self.count += 1

    @property
    def labeled(self) -> bool:
        """Return True if every image has a label."""
        return len(self.labels) == self.count

    def content(self) -> dict[str, Any]:
        """Return the summary that is stored with the cache."""
        if not self.count:
            raise ValueError(f"the {self.path.stem} split has no image")
        return {
            "shape": [self.count, *self.shape],
            "sha256": self.sum.hexdigest(),
            "labeled": self.labeled,
        }


def open_cache(folder: Path, settings: Mapping[str, Any], stream: Callable[[], "ImageStream"]) -> Splits:
    """Open a cache, or build it from a stream of images if it is missing.

    The files are ``train.bytes`` and ``test.bytes``, raw uint8 with shape (N, C, H, W), and, if all images have
    labels, ``train.labels.npy`` and ``test.labels.npy``, int64 with shape (N,).

    Arguments:
        folder: folder of the cache.
        settings: all settings that determine the images.
        stream: function that opens the stream of images.

    Raises:
        ValueError: the cache was built with other settings, or cache or images are damaged.
        OSError: the disk is full; the partial cache is removed.
    """

    def fill(growing: Path) -> dict[str, Any]:
        samples, classes, names = stream()
        with ExitStack() as files:
            train, test = (
                files.enter_context(_Part(growing / f"{name}.bytes")) for name in ("train", "test")
            )
            for sample in samples:
                (test if sample.test else train).append(sample.image, sample.label, classes)
        if not train.labeled:
            classes, names = 0, ()
        for part in (train, test):
            if not classes or not part.labeled:
                continue
            with create(part.path.with_suffix(".labels.npy")) as file:
                np.save(file, np.array(part.labels))
        return {"classes": classes, "class_names": names, "train": train.content(), "test": test.content()}

    header = build_atomically(folder, settings, fill)

    def part(name: str) -> Dataset:
        labels, about = folder / f"{name}.labels.npy", header[name]
        if header["classes"] and labels.exists():
            check_regular(labels)  # opening a pipe would wait forever
        return Dataset(
            values=MemmapImages(folder / f"{name}.bytes", tuple(about["shape"]), about["sha256"]),
            labels=torch.from_numpy(np.load(labels))
            if header["classes"]
            and about.get("labeled", about.get("labelled", True))  # as version 0.1 spelled it
            else None,
            levels=256,
            classes=header["classes"],
            class_names=tuple(header.get("class_names", ())),  # an earlier version left none
        )

    with checked_read(folder):
        return Splits(train=part("train"), test=part("test"))
