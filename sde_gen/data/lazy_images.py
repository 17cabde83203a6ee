"""Samples that stay on the disk until they are asked for."""

import abc
import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sde_gen.utils.types import Shape


class LazyImages(abc.ABC):
    """Samples that are indexed like a tensor of uint8 with shape (N, *event), and read from the disk by that.

    What a row holds depends on its number alone, so any process reads any rows, in any order and as often as it
    likes: a training that goes on needs no state of its data.

    Attributes:
        dtype: uint8.
        device: where the rows go once they are read.
    """

    dtype = torch.uint8
    device = torch.device("cpu")

    @property
    @abc.abstractmethod
    def shape(self) -> Shape:
        """(N, *event)."""

    @property
    @abc.abstractmethod
    def fingerprint(self) -> str:
        """A text that differs wherever the samples do; nothing is read for it."""

    @abc.abstractmethod
    def read(self, places: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        """Read the rows at places (B,), all inside the set, into ``out`` with shape (B, *event).

        Raises:
            ValueError: a sample is damaged; the message names it.
        """

    def __len__(self) -> int:
        return self.shape[0]

    def to(self, device: torch.device | str) -> "LazyImages":
        """The same rows for another device; none is read."""
        there = copy.copy(self)
        there.device = torch.device(device)
        return there

    def fetch(self, indices: Tensor | list[int] | slice) -> Tensor:
        """Read rows into memory of the host, page-locked if they go to a GPU.

        Returns:
            uint8 with shape (B, *event), on the CPU.

        Raises:
            IndexError: there is no such row.
            ValueError: a sample is damaged.
        """
        if isinstance(indices, slice):
            places = np.arange(*indices.indices(len(self)), dtype=np.int64)
        else:
            places = torch.as_tensor(indices, dtype=torch.int64).cpu().numpy()
        if len(places) and not 0 <= places.min() <= places.max() < len(self):
            raise IndexError(f"rows {places.min()} to {places.max()} of a set of {len(self)}")
        rows = torch.empty(
            (len(places), *self.shape[1:]), dtype=self.dtype, pin_memory=self.device.type == "cuda"
        )
        self.read(places, rows.numpy())
        return rows

    def __getitem__(self, indices: Tensor | list[int] | slice | int) -> Tensor:
        """The rows, on the device; one event for one number."""
        if isinstance(indices, int):
            return self[[indices]][0]
        return self.fetch(indices).to(self.device, non_blocking=True)
