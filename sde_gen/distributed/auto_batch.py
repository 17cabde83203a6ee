"""How many samples a device has room for at once."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch

Given = TypeVar("Given")
Made = TypeVar("Made")


@dataclass(kw_only=True)
class AutoBatchSize:
    """Work on many samples in parts as large as the memory of the device allows.

    A part that does not fit is halved, and so are all that follow.

    Arguments:
        size: samples of a part, to begin with.
        splittable: whether a part may be halved.
        on_resize: told the size before the first part, and again whenever it has changed.
    """

    size: int
    splittable: bool = True
    on_resize: Callable[[int], object] = lambda size: None

    def __post_init__(self) -> None:
        """Nothing is prepared."""
        self._ready = False

    def warm_up(self) -> None:
        """Prepare for the size, unless that is done.

        Raises:
            OutOfMemoryError: as :meth:`map`.
        """
        while not self._ready:
            self._ready = bool(self._fits(self.on_resize, self.size, self.size))

    def map(self, rows: range, work: Callable[[range], Made]) -> Iterator[Made]:
        """Work on rows, part after part.

        Arguments:
            rows: numbers of samples, in sequence.
            work: makes something of some of them.

        Raises:
            OutOfMemoryError: the device has no memory for a single sample, or for a part that must not be halved.
        """
        while rows:
            self.warm_up()
            some = rows[: self.size]
            for made in self._fits(work, some, len(some)):
                yield made
                rows = rows[len(some) :]

    def _fits(self, work: Callable[[Given], Made], given: Given, count: int) -> list[Made]:
        """What was made, or nothing and half the size; what the failed attempt held is free again on return."""
        try:
            return [work(given)]
        except torch.OutOfMemoryError:
            if not self.splittable or count == 1:
                raise
        self.size, self._ready = (count + 1) // 2, False
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        warnings.warn(
            f"the memory did not suffice for {count} samples at once; going on with {self.size}", stacklevel=2
        )
        return []
