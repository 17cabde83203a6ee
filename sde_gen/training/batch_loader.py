"""Loader of the micro-batches of a training step, with prefetching of data on disk."""

import itertools
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from torch import Tensor

from sde_gen.data import Batches, BucketBatches, Dataset, LazyImages
from sde_gen.utils.broadcasting import to_device


class MicroBatch(NamedTuple):
    """Micro-batch of a training step.

    Attributes:
        indices: indices of the samples, int64 with shape (B,), on the device.
        values: the samples with shape (B, *event), on the device; rows of other processes may hold samples of this one.
    """

    indices: Tensor
    values: Tensor


class BatchLoader:
    """Loader of the micro-batches of a step, a function of the step number.

    Samples in memory are indexed. From disk a process reads only its slice of the batch, unless ``whole`` is set, and a
    thread prefetches the next step; its errors are raised when that step is loaded. The thread ends with the loader.

    Arguments:
        data: the data set, whose tensors are on the device.
        batches: sample indices of every step.
        accumulation: micro-batches per step.
        rank: rank of this process.
        size: number of processes.
        steps: number of steps; no further step is prefetched.
        whole: read the samples of all processes.
    """

    def __init__(
        self,
        *,
        data: Dataset,
        batches: Batches | BucketBatches,
        accumulation: int,
        rank: int,
        size: int,
        steps: int,
        whole: bool,
    ) -> None:
        self.data, self.batches, self.accumulation, self.steps = data, batches, accumulation, steps
        self.rank, self.size, self.whole = rank, size, whole
        self._pool = ThreadPoolExecutor(1)  # starts its thread with the first task
        self._prefetched: tuple[int, Future[list[Tensor]]] | None = None

    def local_slice(self, count: int) -> slice:
        """Return the slice of this process in a micro-batch of ``count`` samples."""
        share = count // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def shares(self, parts: list[MicroBatch]) -> list[slice]:
        """Return the slice of this process in every micro-batch, as rows of the whole batch."""
        ends = list(itertools.accumulate(len(part.indices) for part in parts))
        shares = (self.local_slice(len(part.indices)) for part in parts)
        return [
            slice(start + share.start, start + share.stop)
            for start, share in zip([0, *ends], shares, strict=False)
        ]

    def __call__(self, step: int) -> list[MicroBatch]:
        """Return the micro-batches of a step."""
        values = self.data.values
        parts = to_device(self.batches.indices(step), values.device).chunk(self.accumulation)
        if isinstance(values, Tensor):
            return [MicroBatch(part, values[part]) for part in parts]
        batches = self._read(step, values)
        return [
            MicroBatch(part, self._to_device(read, values)) for part, read in zip(parts, batches, strict=True)
        ]

    def _read(self, step: int, rows: LazyImages) -> list[Tensor]:
        """Return the local samples of a step, on the host, and start prefetching those of the next step."""
        before, self._prefetched = self._prefetched, None
        if before is not None and before[0] == step:
            samples = before[1].result()
        else:  # the first step, or a repeated one
            samples = _fetch(rows, self._local_indices(step))
        if step + 1 < self.steps:
            self._prefetched = step + 1, self._pool.submit(_fetch, rows, self._local_indices(step + 1))
        return samples

    def _local_indices(self, step: int) -> list[Tensor]:
        parts = self.batches.indices(step).chunk(self.accumulation)
        return [part if self.whole else part[self.local_slice(len(part))] for part in parts]

    def _to_device(self, samples: Tensor, rows: LazyImages) -> Tensor:
        """Return the micro-batch on the device; the slice of this process also fills those of the others."""
        values = to_device(samples, rows.device)
        return values if self.whole else values.repeat(self.size, *[1] * (values.ndim - 1))


def _fetch(rows: LazyImages, parts: list[Tensor]) -> list[Tensor]:
    return [rows.fetch(indices) for indices in parts]
