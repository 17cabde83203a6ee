"""Data sets in memory."""

import abc
from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen._typing import Shape


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One split of a data set, as tensors.

    Arguments:
        values: integer levels (uint8 where they fit) or float32 numbers with shape (N, *event).
        labels: classes, int64 with shape (N,), or None.
        levels: number of integer levels; None for continuous data.
        classes: number of classes, 0 without labels.
    """

    values: Tensor
    labels: Tensor | None
    levels: int | None
    classes: int

    def __post_init__(self) -> None:
        """Check the data."""
        if len(self.values) == 0:
            raise ValueError("a data set needs at least one sample, got none")
        if self.levels is None:
            if not bool(torch.isfinite(self.values).all()):
                bad = int((~torch.isfinite(self.values.flatten(1))).any(1).sum())
                raise ValueError(
                    f"{bad} of {len(self.values)} samples hold numbers that are not finite; remove them"
                )
        elif self.values.is_floating_point():
            raise ValueError(
                f"values are {self.values.dtype} but levels={self.levels}: integer levels need an integer dtype"
            )
        elif not 0 <= int(self.values.min()) <= int(self.values.max()) < self.levels:
            raise ValueError(
                f"values lie in [{int(self.values.min())}, {int(self.values.max())}], "
                f"outside the {self.levels} levels 0 to {self.levels - 1}"
            )
        if self.labels is not None and len(self.labels) != len(self.values):
            raise ValueError(f"{len(self.labels)} labels for {len(self.values)} samples")
        if (
            self.labels is not None
            and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < self.classes
        ):
            raise ValueError(
                f"labels lie in [{int(self.labels.min())}, {int(self.labels.max())}], "
                f"outside the {self.classes} classes 0 to {self.classes - 1}"
            )

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.values)

    @property
    def shape(self) -> Shape:
        """Event shape."""
        return tuple(self.values.shape[1:])

    def to(self, device: torch.device | str) -> "Dataset":
        """Move the tensors to a device, once."""
        labels = None if self.labels is None else self.labels.to(device)
        return Dataset(values=self.values.to(device), labels=labels, levels=self.levels, classes=self.classes)


@dataclass(frozen=True, kw_only=True)
class Splits:
    """The two splits of a data set, disjoint."""

    train: Dataset
    test: Dataset


class Source(abc.ABC):
    """Where a data set comes from: hyper-parameters only, until it is loaded."""

    @abc.abstractmethod
    def load(self) -> Splits:
        """Read the data.

        Raises:
            ValueError: the data are missing or broken; the message says what to do.
        """


def split(values: Tensor, labels: Tensor | None, *, levels: int | None, classes: int, test: Tensor) -> Splits:
    """Split by a boolean mask with shape (N,)."""

    def part(mask: Tensor) -> Dataset:
        return Dataset(
            values=values[mask],
            labels=None if labels is None else labels[mask],
            levels=levels,
            classes=classes,
        )

    return Splits(train=part(~test), test=part(test))


def last_after_shuffle(count: int, test_fraction: float, seed: int) -> Tensor:
    """A mask of about ``test_fraction`` of the samples, at least one, drawn by seed."""
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction={test_fraction} must lie strictly between 0 and 1")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    mask = torch.zeros(count, dtype=torch.bool)
    mask[order[: max(1, round(test_fraction * count))]] = True
    return mask
