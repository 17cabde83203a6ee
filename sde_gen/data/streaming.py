"""Streams of images, read into memory or into a cache on disk."""

import abc
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from sde_gen.data import cache
from sde_gen.data.base import Dataset, DatasetSource, Splits
from sde_gen.data.lazy_images import LazyImages


class Sample(NamedTuple):
    """Image of a stream.

    Attributes:
        image: uint8 with shape (C, H, W).
        label: class, or None.
        test: True for the test split.
    """

    image: Tensor
    label: int | None
    test: bool


class ImageStream(NamedTuple):
    """A sequence of images and the classes of their labels.

    Attributes:
        samples: every image once, all of one shape; a split with a missing label is loaded without labels.
        classes: number of classes, 0 without labels.
        class_names: names of the classes in order of their numbers; empty if unnamed.
    """

    samples: Iterable[Sample]
    classes: int
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StreamingSource(DatasetSource):
    """A source of 8-bit images that can be read as a stream.

    Arguments:
        cache: folder for a copy of the decoded images, built once and memory-mapped, for sets larger than memory; None
            keeps the images in memory.
    """

    cache: str | None = None

    places: ClassVar[frozenset[str]] = frozenset({"cache"})
    idle: ClassVar[frozenset[str]] = frozenset({"cache"})

    @abc.abstractmethod
    def stream(self) -> ImageStream:
        """Open the stream of images, read in bounded memory.

        Raises:
            ValueError: the data are missing or broken, at once or while they are read.
        """

    def settings(self) -> dict[str, Any]:
        """Return the settings that determine the images."""
        names = (field.name for field in fields(self) if field.name not in self.idle)
        values = {name: getattr(self, name) for name in names}
        return {"source": type(self).__name__, **{name: _as_plain(value) for name, value in values.items()}}

    def load(self) -> Splits:
        """Read the images into memory, or open their cache, built if it is missing."""
        return self._in_memory() if self.cache is None else self._cached(self.cache)

    def _cached(self, folder: str) -> Splits:
        return cache.open_cache(Path(folder), self.settings(), self.stream)

    def _in_memory(self) -> Splits:
        samples, classes, names = self.stream()
        parts: dict[bool, list[Sample]] = {False: [], True: []}
        for sample in samples:
            parts[sample.test].append(sample)

        if any(sample.label is None for sample in parts[False]):
            classes, names = 0, ()

        values = self.joined({test: [sample.image for sample in part] for test, part in parts.items()})

        def stack(test: bool) -> Dataset:
            labels = [sample.label for sample in parts[test] if sample.label is not None]
            return Dataset(
                values=values[test],
                labels=torch.tensor(labels) if classes and len(labels) == len(parts[test]) else None,
                levels=256,
                classes=classes,
                class_names=names,
            )

        return Splits(train=stack(False), test=stack(True))

    def joined(self, splits: Mapping[bool, Sequence[Tensor]]) -> Mapping[bool, Tensor | LazyImages]:
        """Return the images of the training split, False, and of the test split, True, as values of data sets."""
        return {test: torch.stack([*images]) if images else torch.empty(0) for test, images in splits.items()}


def _as_plain(value: Any) -> Any:
    """Return a sequence as a list, as JSON holds it."""
    return [*value] if isinstance(value, Sequence) and not isinstance(value, str) else value
