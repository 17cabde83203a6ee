"""Data sets from tar files in the WebDataset layout."""

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
from sde_gen.data.image import Size, check_resized, in_threads
from sde_gen.data.streaming import ImageStream, Sample, StreamingSource
from sde_gen.data.tar import Members, index_members
from sde_gen.data.tar_images import TarImages
from sde_gen.utils.atomic import check_regular, create


@dataclass(frozen=True, kw_only=True)
class Shards(StreamingSource):
    """Images in tar files, resized and cropped to one size; decoded on demand for each batch, or cached.

    An index of all images is built from the headers of the files. So an epoch is a permutation of all images rather
    than of a shuffle buffer, training resumes at any image, and each process reads only its part of a batch.
    The format of a sample is described in :func:`sde_gen.data.index_members`. Without separate test shards, samples are
    assigned to the test split by a hash of shard and key, so that adding shards moves no image between the splits.

    Arguments:
        train: the files: a path with ``{000000..000146}``, or with ``*``, ``?`` and ``[...]``.
        test: files of the test split; None holds out a fraction of the training files' samples.
        size: side of a square, or height and width; the image is resized to cover it, then the center is cropped.
        channels: 1 for gray, 3 for color.
        test_fraction: fraction of the test split.
        label: name of the label in a sample's JSON.
        background: color behind transparent pixels, by name or as #rrggbb; None drops the alpha channel.
        skip_corrupt: decode every image once, and skip unreadable ones with a warning.
        workers: number of images decoded in parallel, per process.
        index: folder for the index of the images; None rebuilds it at every start.
        cache: folder for a copy of the decoded images; None decodes them again in every epoch.
    """

    train: str
    test: str | None = None
    size: Size = 32
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
        check_resized(self.size, self.channels, self.background)
        check_fraction(self.test_fraction)
        if self.workers < 1:
            raise ValueError(f"workers={self.workers}: must be at least 1")

    def load(self) -> Splits:
        """Index the images, or open their cache."""
        return self.indexed() if self.cache is None else super().load()

    def stream(self) -> ImageStream:
        """Index the images and decode them in order."""
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
        """Index the images, which are decoded on demand."""
        shards = expand(self.train)
        held_out = [] if self.test is None else expand(self.test)
        files = [*shards, *held_out]
        if self.index is None:
            index = self._find(files)
        else:
            settings = {key: getattr(self, key) for key in ("train", "test", "label", "skip_corrupt")}
            settings |= {str(path): [path.stat().st_size, path.stat().st_mtime_ns] for path in files}
            build_atomically(Path(self.index), settings, lambda folder: self._keep(folder, self._find(files)))
            members = Path(self.index) / "members.npz"
            with checked_read(Path(self.index)):
                check_regular(members)  # opening a pipe would wait forever
                with np.load(members) as columns:
                    index = Members(**columns)
        test = index.share < self.test_fraction if self.test is None else index.shard >= len(shards)
        if test.all() or not test.any():
            raise ValueError(
                f"{len(test)} images, {test.sum()} of them in the test split: both splits need images; give other "
                "shards, or another data.test_fraction"
            )
        # held-out images in order of their hashes, so that the first n are a random subset
        held = np.flatnonzero(test)
        held = held[np.argsort(index.share[held], kind="stable")]
        classes = int(index.label.max()) + 1

        def part(places: NDArray[np.int64]) -> Dataset:
            chosen = index.rows(places)
            return Dataset(
                values=self._decoded(files, chosen),
                labels=torch.from_numpy(chosen.label) if classes else None,
                levels=256,
                classes=classes,
            )

        return Splits(train=part(np.flatnonzero(~test)), test=part(held))

    def _decoded(self, files: Sequence[Path], index: Members) -> TarImages:
        return TarImages(
            files,
            index,
            size=self.size,
            channels=self.channels,
            background=self.background,
            workers=self.workers,
        )

    def _find(self, files: Sequence[Path]) -> Members:
        """Return the index of the images, without undecodable ones if ``skip_corrupt`` is set."""
        index = index_members(files, field=self.label)
        if not self.skip_corrupt:
            return index
        rows = self._decoded(files, index)
        reasons = list(in_threads(rows.fault, range(len(rows))))
        corrupt = [reason for reason in reasons if reason is not None]
        if corrupt:
            listing = "; ".join(corrupt[:10])
            listing += f"; and {len(corrupt) - 10} more" if len(corrupt) > 10 else ""
            warnings.warn(f"skipped {len(corrupt)} unreadable images: {listing}", stacklevel=2)
        return index.rows(np.array([reason is None for reason in reasons]))

    def _keep(self, folder: Path, index: Members) -> dict[str, Any]:
        with create(folder / "members.npz") as file:
            np.savez(file, **index._asdict())
        return {"images": len(index.label)}


def expand(pattern: str) -> list[Path]:
    """Expand a pattern to the list of files, in order.

    ``{000..146}`` expands to all numbers of the range, zero-padded like the first; ``*``, ``?`` and ``[...]`` match
    existing files.

    Raises:
        ValueError: no file matches, or a file of a range is missing.
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
    files = [
        Path(name) for path in paths for name in (sorted(glob.glob(path)) if glob.has_magic(path) else [path])
    ]
    missing = [path for path in files if not path.is_file()]
    if missing:
        raise ValueError(
            f"{len(missing)} of the {len(files)} shards {pattern} are not there, such as {missing[0]}"
        )
    if not files:
        raise ValueError(
            f"no shard matches {pattern}; give tar files, such as path/train-{{000000..000146}}.tar or "
            "path/train-*.tar, with data.train=..."
        )
    return files
