"""Automatic batch size: halved until a batch fits the memory of the device."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch

Work = TypeVar("Work")
Result = TypeVar("Result")


@dataclass(kw_only=True)
class AutoBatchSize:
    """Process samples in batches as large as the memory of the device allows.

    After an out-of-memory error the batch size is halved, for all following batches as well.

    Arguments:
        size: initial batch size.
        splittable: whether a batch may be halved.
        on_resize: called with the batch size before the first batch, and after every change.
    """

    size: int
    splittable: bool = True
    on_resize: Callable[[int], object] = lambda size: None

    def __post_init__(self) -> None:
        self._ready = False

    def warm_up(self) -> None:
        """Call ``on_resize`` for the current size, unless done.

        Raises:
            OutOfMemoryError: as :meth:`map`.
        """
        while not self._ready:
            self._ready = bool(self._fits(self.on_resize, self.size, self.size))

    def map(self, rows: range, work: Callable[[range], Result]) -> Iterator[Result]:
        """Yield the results of ``work``, batch by batch.

        Arguments:
            rows: indices of samples.
            work: processes a batch of indices.

        Raises:
            OutOfMemoryError: the device has no memory for a single sample, or for a batch that must not be halved.
        """
        while rows:
            self.warm_up()
            some = rows[: self.size]
            for made in self._fits(work, some, len(some)):
                yield made
                rows = rows[len(some) :]

    def _fits(self, work: Callable[[Work], Result], given: Work, count: int) -> list[Result]:
        """Return the result in a list, or halve the size and return an empty list, with all memory freed."""
        try:
            return [work(given)]
        except torch.OutOfMemoryError:
            if not self.splittable or count == 1:
                raise
        self.size, self._ready = (count + 1) // 2, False
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        warnings.warn(
            f"out of memory with a batch of {count} samples; continuing with {self.size}", stacklevel=2
        )
        return []
