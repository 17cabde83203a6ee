"""Samples on disk that are read on demand."""

import abc
import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sde_gen.utils.types import Shape


class LazyImages(abc.ABC):
    """Samples indexed like a tensor with shape (N, *event) and read from disk on access.

    A row depends only on its index, so that every process can read any rows in any order, and resuming a training needs
    no state of the data.

    Attributes:
        dtype: uint8 for images.
        device: device to which rows are moved after reading.
    """

    dtype = torch.uint8
    device = torch.device("cpu")

    @property
    @abc.abstractmethod
    def shape(self) -> Shape:
        """Return the shape (N, *event)."""

    @property
    @abc.abstractmethod
    def fingerprint(self) -> str:
        """Identifier of the samples, computed without reading them."""

    @property
    def buckets(self) -> Tensor | None:
        """Bucket of every row, int64 with shape (N,), for rows of several shapes; None for rows of one shape.

        Rows of one bucket have one shape, those of bucket 0 that of the set.
        """
        return None

    def event(self, places: NDArray[np.int64]) -> Shape:
        """Return the event shape of the rows at valid indices (B,).

        Raises:
            ValueError: they have several shapes.
        """
        del places
        return self.shape[1:]

    @abc.abstractmethod
    def read(self, places: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        """Read the rows at valid indices (B,) into ``out`` with shape (B, *event).

        Raises:
            ValueError: a sample is damaged; the message names it.
        """

    def __len__(self) -> int:
        return self.shape[0]

    def to(self, device: torch.device | str) -> "LazyImages":
        """Return the same rows for another device, without reading any."""
        there = copy.copy(self)
        there.device = torch.device(device)
        return there

    def fetch(self, indices: Tensor | list[int] | slice) -> Tensor:
        """Read rows into host memory, page-locked if the target device is a GPU.

        Returns:
            Rows with shape (B, *event), on the CPU.

        Raises:
            IndexError: an index is out of range.
            ValueError: a sample is damaged.
        """
        if isinstance(indices, slice):
            places = np.arange(*indices.indices(len(self)), dtype=np.int64)
        else:
            places = torch.as_tensor(indices, dtype=torch.int64).cpu().numpy()
        if len(places) and not 0 <= places.min() <= places.max() < len(self):
            raise IndexError(f"rows {places.min()} to {places.max()} of a set of {len(self)}")
        shape = (len(places), *self.event(places))
        rows = torch.empty(shape, dtype=self.dtype, pin_memory=self.device.type == "cuda")
        self.read(places, rows.numpy())
        return rows

    def __getitem__(self, indices: Tensor | list[int] | slice | int) -> Tensor:
        """Return the rows on the device, or a single event for an integer."""
        if isinstance(indices, int):
            return self[[indices]][0]
        return self.fetch(indices).to(self.device, non_blocking=True)
