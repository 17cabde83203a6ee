"""Data sets of two splits, whose samples are indexed by number."""

import abc
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.data.batches import Batches
from sde_gen.data.bucket_batches import BucketBatches
from sde_gen.data.columns import Column
from sde_gen.data.lazy_images import LazyImages
from sde_gen.utils.arguments import Checked
from sde_gen.utils.hashing import digest
from sde_gen.utils.types import Shape


@dataclass(frozen=True, kw_only=True, init=False)
class Dataset:
    """One split of a data set.

    Arguments:
        values: integer levels (uint8 where possible) or float32 numbers with shape (N, *event): a tensor, or rows
            read on demand, which were validated when written.
        conditions: what else is known of every sample, by name, each with one row per sample: ``label``, classes as
            int64 with shape (N,); ``vector`` (N, V) and ``image`` (N, C, H, W), numbers; ``text``, captions by
            :func:`~sde_gen.data.encode_texts`.
        labels: short for ``conditions={"label": labels}``; None for data without.
        levels: number of integer levels; None for continuous data.
        classes: number of classes, 0 without labels.
        class_names: names of the classes in order of their numbers; empty if unnamed.
        columns: columns of a table, or tensors of a network, whose numbers a row joins; empty for other data.

    Raises:
        ValueError: there are no samples, or a value or a condition is out of range, not finite or of another length.
    """

    values: Tensor | LazyImages
    levels: int | None
    classes: int
    class_names: tuple[str, ...]
    conditions: Mapping[str, Tensor]
    columns: tuple[Column, ...]

    def __init__(
        self,
        *,
        values: Tensor | LazyImages,
        levels: int | None,
        classes: int = 0,
        class_names: tuple[str, ...] = (),
        conditions: Mapping[str, Tensor] = MappingProxyType({}),
        labels: Tensor | None = None,
        columns: tuple[Column, ...] = (),
    ) -> None:
        if labels is not None and "label" in conditions:
            raise ValueError("labels are given twice; give conditions or labels")
        conditions = {**({} if labels is None else {"label": labels}), **conditions}
        for name, value in (
            ("values", values),
            ("levels", levels),
            ("classes", classes),
            ("class_names", class_names),
            ("conditions", conditions),
            ("columns", columns),
        ):
            object.__setattr__(self, name, value)
        if len(values) == 0:
            raise ValueError("a data set needs at least one sample, got none")
        if isinstance(values, Tensor):
            _check(values, levels)
        if class_names and len(class_names) != classes:
            raise ValueError(f"{len(class_names)} class_names for {classes} classes")
        for name, rows in conditions.items():
            _check_condition(name, rows, len(values))
        labels = self.labels
        if labels is not None and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
            raise ValueError(
                f"labels lie in [{int(labels.min())}, {int(labels.max())}], "
                f"outside the {classes} classes 0 to {classes - 1}"
            )

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.values)

    @property
    def labels(self) -> Tensor | None:
        """Classes, int64 with shape (N,), or None."""
        return self.conditions.get("label")

    @property
    def shape(self) -> Shape:
        """Return the event shape."""
        return tuple(self.values.shape[1:])

    @property
    def buckets(self) -> Tensor | None:
        """Bucket of every sample, int64 with shape (N,), if samples have several shapes, 0 for the event shape."""
        return None if isinstance(self.values, Tensor) else self.values.buckets

    def batches(self, *, batch_size: int, seed: int) -> Batches | BucketBatches:
        """Return the order of training batches, each of samples of one shape."""
        if self.buckets is None:
            return Batches(size=len(self), batch_size=batch_size, seed=seed)
        return BucketBatches(buckets=self.buckets, batch_size=batch_size, seed=seed)

    def chunks(self, count: int, size: int) -> list[Tensor]:
        """Split the indices of the first ``count`` samples, which begin again after the last one, by shape and size.

        Returns:
            Indices of samples of one shape, int64 with shape (B,), B at most ``size``.
        """
        indices = torch.arange(count) % len(self)
        if self.buckets is None:
            return [*torch.split(indices, size)]
        of_rows = self.buckets[indices]
        return [
            part for k in sorted(set(of_rows.tolist())) for part in torch.split(indices[of_rows == k], size)
        ]

    def of_one_size(self) -> "Dataset":
        """Return the samples of the event shape: all, but for samples of several shapes.

        Raises:
            ValueError: there are none.
        """
        if self.buckets is None:
            return self
        rows = (self.buckets == 0).nonzero().flatten()
        if not len(rows):
            raise ValueError(
                f"no sample of a split has the shape {self.shape} of most of the training data; give a larger split"
            )
        return replace(self, values=self.values[rows], conditions=self.given(rows))

    def given(self, index: Tensor | Sequence[int]) -> dict[str, Tensor]:
        """Return the conditions of some samples."""
        return {name: rows[index] for name, rows in self.conditions.items()}

    def to(self, device: torch.device | str) -> "Dataset":
        """Move the tensors to a device; rows on disk are moved when they are read."""
        conditions = {name: rows.to(device) for name, rows in self.conditions.items()}
        return replace(self, values=self.values.to(device), conditions=conditions)

    def fingerprint(self) -> str:
        """Return a hash of the data, 16 hexadecimal digits, independent of the device.

        It covers every label, and every value in memory or in a cache. For images in tar files it covers the names of
        the files and the images' offsets and sizes, so that no image must be read.
        """
        labels = [] if self.labels is None else [self.labels]
        values = self.values
        fingerprint = contents(values) if isinstance(values, Tensor) else values.fingerprint
        return digest(labels, fingerprint)

    def fingerprints_of_conditions(self) -> dict[str, str]:
        """Return a hash of every condition but the labels, by name, independent of the device."""
        return {name: digest([rows]) for name, rows in self.conditions.items() if name != "label"}


def contents(values: Tensor) -> str:
    """Return shape and SHA-256 of a tensor, the fingerprint that a cache of it has."""
    raw = values.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    kind = "" if values.dtype == torch.uint8 else str(values.dtype)
    return f"{kind}{tuple(values.shape)}{hashlib.sha256(raw.data).hexdigest()}"


def _check_condition(name: str, rows: Tensor, count: int) -> None:
    """Raise a ValueError if a condition is not finite or has another number of rows than the data."""
    if len(rows) != count:
        raise ValueError(f"{len(rows)} {name}{'s' * (name == 'label')} for {count} samples")
    if rows.is_floating_point() and not bool(torch.isfinite(rows).all()):
        bad = (~torch.isfinite(rows.reshape(count, -1))).any(1)
        raise ValueError(
            f"the condition {name} of {int(bad.sum())} of {count} samples holds numbers that are not finite, first "
            f"that of sample {int(bad.nonzero()[0])}; remove these samples"
        )


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
    conditions: Mapping[str, Tensor] = MappingProxyType({}),
    columns: tuple[Column, ...] = (),
) -> Splits:
    """Split by a boolean mask with shape (N,); ``conditions`` are those besides the labels."""

    def part(mask: Tensor) -> Dataset:
        return Dataset(
            values=values[mask],
            labels=None if labels is None else labels[mask],
            levels=levels,
            classes=classes,
            class_names=class_names,
            conditions={name: rows[mask] for name, rows in conditions.items()},
            columns=columns,
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
