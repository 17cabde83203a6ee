"""Data sets of two splits, whose samples are indexed by number."""

import abc
import hashlib
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.data.lazy_images import LazyImages
from sde_gen.utils.arguments import Checked
from sde_gen.utils.hashing import digest
from sde_gen.utils.types import Shape


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One split of a data set.

    Arguments:
        values: integer levels (uint8 where possible) or float32 numbers with shape (N, *event): a tensor, or rows
            read on demand, which were validated when written.
        labels: classes, int64 with shape (N,), or None.
        levels: number of integer levels; None for continuous data.
        classes: number of classes, 0 without labels.
        class_names: names of the classes in order of their numbers; empty if unnamed.
    """

    values: Tensor | LazyImages
    labels: Tensor | None
    levels: int | None
    classes: int
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.values) == 0:
            raise ValueError("a data set needs at least one sample, got none")
        if isinstance(self.values, Tensor):
            _check(self.values, self.levels)
        if self.class_names and len(self.class_names) != self.classes:
            raise ValueError(f"{len(self.class_names)} class_names for {self.classes} classes")
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
        """Return the number of samples."""
        return len(self.values)

    @property
    def shape(self) -> Shape:
        """Return the event shape."""
        return tuple(self.values.shape[1:])

    def to(self, device: torch.device | str) -> "Dataset":
        """Move the tensors to a device; rows on disk are moved when they are read."""
        labels = None if self.labels is None else self.labels.to(device)
        return replace(self, values=self.values.to(device), labels=labels)

    def fingerprint(self) -> str:
        """Return a hash of the data, 16 hexadecimal digits, independent of the device.

        It covers every label, and every value in memory or in a cache. For images in tar files it covers the names of
        the files and the images' offsets and sizes, so that no image must be read.
        """
        labels = [] if self.labels is None else [self.labels]
        values = self.values
        fingerprint = contents(values) if isinstance(values, Tensor) else values.fingerprint
        return digest(labels, fingerprint)


def contents(values: Tensor) -> str:
    """Return shape and SHA-256 of a tensor, the fingerprint that a cache of it has."""
    raw = values.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    kind = "" if values.dtype == torch.uint8 else str(values.dtype)
    return f"{kind}{tuple(values.shape)}{hashlib.sha256(raw.data).hexdigest()}"


def _check(values: Tensor, levels: int | None) -> None:
    """Raise a ValueError if a value is not finite or not a level."""
    if levels is None:
        if not bool(torch.isfinite(values).all()):
            bad = int((~torch.isfinite(values.flatten(1))).any(1).sum())
            raise ValueError(f"{bad} of {len(values)} samples hold numbers that are not finite; remove them")
    elif values.is_floating_point():
        raise ValueError(
            f"values are {values.dtype} but levels={levels}: integer levels need an integer dtype"
        )
    elif not 0 <= int(values.min()) <= int(values.max()) < levels:
        raise ValueError(
            f"values lie in [{int(values.min())}, {int(values.max())}], "
            f"outside the {levels} levels 0 to {levels - 1}"
        )


@dataclass(frozen=True, kw_only=True)
class Splits(Checked):
    """Disjoint training and test splits of a data set."""

    train: Dataset
    test: Dataset


class DatasetSource(Checked, abc.ABC):
    """Source of a data set: hyper-parameters, from which the data are loaded on demand."""

    places: ClassVar[frozenset[str]] = frozenset()
    """Names of the settings that are paths, which may change when a run is reopened."""

    idle: ClassVar[frozenset[str]] = frozenset()
    """Names of the settings that do not affect the data."""

    @abc.abstractmethod
    def load(self) -> Splits:
        """Read the data.

        Raises:
            ValueError: the data are missing or broken; the message says what to do.
        """


def split(
    values: Tensor,
    labels: Tensor | None,
    *,
    levels: int | None,
    classes: int,
    test: Tensor,
    class_names: tuple[str, ...] = (),
) -> Splits:
    """Split by a boolean mask with shape (N,)."""

    def part(mask: Tensor) -> Dataset:
        return Dataset(
            values=values[mask],
            labels=None if labels is None else labels[mask],
            levels=levels,
            classes=classes,
            class_names=class_names,
        )

    return Splits(train=part(~test), test=part(test))


def random_mask(count: int, test_fraction: float, seed: int) -> Tensor:
    """Draw a mask of about ``test_fraction`` of the samples, at least one, from a seed."""
    check_fraction(test_fraction)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    mask = torch.zeros(count, dtype=torch.bool)
    mask[order[: max(1, round(test_fraction * count))]] = True
    return mask


def hash_fraction(name: str) -> float:
    """Hash a name to a number in [0, 1), so that each name is assigned to a split independently of all others."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def check_fraction(test_fraction: float) -> None:
    """Check the fraction of the test split.

    Raises:
        ValueError: the fraction is not strictly between 0 and 1.
    """
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction={test_fraction} must lie strictly between 0 and 1")
