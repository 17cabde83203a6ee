"""Sources of images that come one after the other, into memory or into a cache on the disk."""

import abc
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import torch

from sde_gen.data import cache
from sde_gen.data.base import Dataset, DatasetSource, Splits
from sde_gen.data.stream import ImageStream, Sample


@dataclass(frozen=True, kw_only=True)
class StreamingSource(DatasetSource):
    """A source of images of 256 levels that can be read one after the other.

    Arguments:
        cache: folder of a copy of the decoded images, made once and then mapped into memory: for sets larger than
            memory. None keeps the images in memory.
    """

    cache: str | None = None

    places: ClassVar[frozenset[str]] = frozenset({"cache"})
    idle: ClassVar[frozenset[str]] = frozenset({"cache"})

    @abc.abstractmethod
    def stream(self) -> ImageStream:
        """Begin to read the images; in bounded memory, whatever their number.

        Raises:
            ValueError: the data are missing or broken, at once or while they are read.
        """

    def settings(self) -> dict[str, Any]:
        """All that decides over the images."""
        names = (field.name for field in fields(self) if field.name not in self.idle)
        return {"source": type(self).__name__, **{name: getattr(self, name) for name in names}}

    def load(self) -> Splits:
        """Read the images into memory, or open their cache, which is made if it is not there."""
        if self.cache is not None:
            return cache.open_cache(Path(self.cache), self.settings(), self.stream)
        samples, classes, names = self.stream()
        parts: dict[bool, list[Sample]] = {False: [], True: []}
        for sample in samples:
            parts[sample.test].append(sample)

        if any(sample.label is None for sample in parts[False]):
            classes, names = 0, ()

        def gathered(part: list[Sample]) -> Dataset:
            labels = [sample.label for sample in part if sample.label is not None]
            return Dataset(
                values=torch.stack([sample.image for sample in part]) if part else torch.empty(0),
                labels=torch.tensor(labels) if classes and len(labels) == len(part) else None,
                levels=256,
                classes=classes,
                class_names=names,
            )

        return Splits(train=gathered(parts[False]), test=gathered(parts[True]))
