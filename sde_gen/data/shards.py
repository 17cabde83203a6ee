"""Images in tar files, as WebDataset lays them out."""

import glob
import itertools
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from sde_gen.data.atomic_build import build_atomically, checked_read
from sde_gen.data.base import Dataset, Splits, check_fraction
from sde_gen.data.image import check_square, in_threads
from sde_gen.data.streaming import ImageStream, Sample, StreamingSource
from sde_gen.data.tar import Members, members
from sde_gen.data.tar_images import TarImages
from sde_gen.utils.atomic import create


@dataclass(frozen=True, kw_only=True)
class Shards(StreamingSource):
    """Images in tar files, resized and cropped to squares: read and decoded when a batch asks for them, or cached.

    The headers of the files are read first, and say where every image lies. So an epoch is a permutation of all
    images and not of some buffer of them, a training goes on at any image, and a process reads no more than its share.
    What a sample is, says :func:`sde_gen.data.members`. Without shards of its own, the test split is drawn by a
    hash of the names of shard and sample, so that more shards move no image from one split to the other.

    Arguments:
        train: the files: a path with ``{000000..000146}``, or with ``*``, ``?`` and ``[...]``.
        test: those of the test split; None takes a share of the others.
        size: side of the square; the shorter side is resized to it, then the center is cropped.
        channels: 1 for grey, 3 for color.
        test_fraction: share of the test split.
        label: name of the label in a sample's JSON.
        background: color on which transparent pixels are laid, by a name or as #rrggbb; None leaves out the
            transparency.
        skip_corrupt: decode every image once, and leave out, with a warning, those that cannot be.
        workers: how many images are decoded at a time, in each process.
        index: folder that keeps where the images lie; None finds it out at every start.
        cache: folder of a copy of the decoded images; None decodes them anew in every epoch.
    """

    train: str
    test: str | None = None
    size: int = 32
    channels: int = 3
    test_fraction: float = 0.1
    label: str = "label"
    background: str | None = "white"
    skip_corrupt: bool = False
    workers: int = 4
    index: str | None = None

    places: ClassVar[frozenset[str]] = frozenset({"train", "test", "cache", "index"})
    idle: ClassVar[frozenset[str]] = frozenset({"cache", "index", "workers"})

    def __post_init__(self) -> None:
        check_square(self.size, self.channels, self.background)
        check_fraction(self.test_fraction)
        if self.workers < 1:
            raise ValueError(f"workers={self.workers}: at least 1 image has to be decoded at a time")

    def load(self) -> Splits:
        """Find the images, or open their cache."""
        return self.indexed() if self.cache is None else super().load()

    def stream(self) -> ImageStream:
        """Find the images, and decode them in their order."""
        splits = self.indexed()
        return ImageStream(self._samples(splits), splits.train.classes)

    def _samples(self, splits: Splits) -> Iterator[Sample]:
        for data in (splits.train, splits.test):
            for start in range(0, len(data), 256):
                chunk = slice(start, start + 256)
                images = data.values[chunk]
                labels = [None] * len(images) if data.labels is None else data.labels[chunk].tolist()
                for image, label in zip(images, labels, strict=True):
                    yield Sample(image, label, data is splits.test)

    def indexed(self) -> Splits:
        """Find the images; they are decoded when they are asked for."""
        shards = expand(self.train)
        held_out = [] if self.test is None else expand(self.test)
        files = [*shards, *held_out]
        if self.index is None:
            found = self._find(files)
        else:
            settings = {key: getattr(self, key) for key in ("train", "test", "label", "skip_corrupt")}
            settings |= {str(path): [path.stat().st_size, path.stat().st_mtime_ns] for path in files}
            build_atomically(Path(self.index), settings, lambda folder: self._keep(folder, self._find(files)))
            with checked_read(Path(self.index)), np.load(Path(self.index) / "members.npz") as columns:
                found = Members(**columns)
        test = found.share < self.test_fraction if self.test is None else found.shard >= len(shards)
        if test.all() or not test.any():
            raise ValueError(
                f"{len(test)} images, of which {test.sum()} are the test split's: both splits need some; give other "
                "shards, or another data.test_fraction"
            )
        # those held out in the order of their hashes: the first n are a fair sample of their classes
        held = np.flatnonzero(test)
        held = held[np.argsort(found.share[held], kind="stable")]
        classes = int(found.label.max()) + 1

        def part(places: NDArray[np.int64]) -> Dataset:
            chosen = found.rows(places)
            return Dataset(
                values=self._decoded(files, chosen),
                labels=torch.from_numpy(chosen.label) if classes else None,
                levels=256,
                classes=classes,
            )

        return Splits(train=part(np.flatnonzero(~test)), test=part(held))

    def _decoded(self, files: Sequence[Path], found: Members) -> TarImages:
        return TarImages(
            files,
            found,
            size=self.size,
            channels=self.channels,
            background=self.background,
            workers=self.workers,
        )

    def _find(self, files: Sequence[Path]) -> Members:
        """Where the images lie; without those that cannot be decoded, if they are to be left out."""
        found = members(files, field=self.label)
        if not self.skip_corrupt:
            return found
        rows = self._decoded(files, found)
        reasons = list(in_threads(rows.fault, range(len(rows))))
        corrupt = [reason for reason in reasons if reason is not None]
        if corrupt:
            listing = "; ".join(corrupt[:10])
            listing += f"; and {len(corrupt) - 10} more" if len(corrupt) > 10 else ""
            warnings.warn(f"left out {len(corrupt)} images that cannot be read: {listing}", stacklevel=2)
        return found.rows(np.array([reason is None for reason in reasons]))

    def _keep(self, folder: Path, found: Members) -> dict[str, Any]:
        with create(folder / "members.npz") as file:
            np.savez(file, **found._asdict())
        return {"images": len(found.label)}


def expand(pattern: str) -> list[Path]:
    """The files that a pattern stands for, in its order.

    ``{000..146}`` stands for all numbers between, as wide as the first; ``*``, ``?`` and ``[...]`` for the files
    that are there.

    Raises:
        ValueError: there are none, or one of them is missing.
    """
    texts = re.split(r"\{(\d+)\.\.(\d+)\}", pattern)  # text, first, last, text, first, last, ..., text
    ranges = [
        [f"{number:0{len(first)}}" for number in range(int(first), int(last) + 1)]
        for first, last in zip(texts[1::3], texts[2::3], strict=True)
    ]
    paths = [
        "".join(itertools.chain(*zip(texts[::3], (*numbers, ""), strict=True)))
        for numbers in itertools.product(*ranges)
    ]
    found = [
        Path(name) for path in paths for name in (sorted(glob.glob(path)) if glob.has_magic(path) else [path])
    ]
    missing = [path for path in found if not path.is_file()]
    if missing:
        raise ValueError(
            f"{len(missing)} of the {len(found)} shards {pattern} are not there, such as {missing[0]}"
        )
    if not found:
        raise ValueError(
            f"there is no shard {pattern}; give tar files, such as path/train-{{000000..000146}}.tar or "
            "path/train-*.tar, with data.train=..."
        )
    return found
