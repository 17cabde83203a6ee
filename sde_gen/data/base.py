"""What a data set is: two splits of samples that are indexed by number."""

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
        values: integer levels (uint8 where they fit) or float32 numbers with shape (N, *event): a tensor, or rows
            that are read when they are asked for, which were checked when they were written.
        labels: classes, int64 with shape (N,), or None.
        levels: number of integer levels; None for continuous data.
        classes: number of classes, 0 without labels.
        class_names: their names in the order of their numbers; empty where they have none.
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
        """Number of samples."""
        return len(self.values)

    @property
    def shape(self) -> Shape:
        """Event shape."""
        return tuple(self.values.shape[1:])

    def to(self, device: torch.device | str) -> "Dataset":
        """Move the tensors to a device, once; rows on the disk go there when they are read."""
        labels = None if self.labels is None else self.labels.to(device)
        return replace(self, values=self.values.to(device), labels=labels)

    def fingerprint(self) -> str:
        """16 hexadecimal digits that differ wherever the data do, and are the same on every device.

        Of values in memory, or in a cache of the same, every one counts, and so does every label. Of images in tar
        files, which would all have to be read, the names of the files and the images' places and sizes count.
        """
        labels = [] if self.labels is None else [self.labels]
        values = self.values
        known = contents(values) if isinstance(values, Tensor) else values.fingerprint
        return digest(labels, known)


def contents(values: Tensor) -> str:
    """Shape and SHA-256 of numbers in memory, as a cache of them knows itself."""
    raw = values.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    kind = "" if values.dtype == torch.uint8 else str(values.dtype)
    return f"{kind}{tuple(values.shape)}{hashlib.sha256(raw.data).hexdigest()}"


def _check(values: Tensor, levels: int | None) -> None:
    """Look at every number."""
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
    """The two splits of a data set, disjoint."""

    train: Dataset
    test: Dataset


class DatasetSource(Checked, abc.ABC):
    """Where a data set comes from: hyper-parameters only, until it is loaded."""

    places: ClassVar[frozenset[str]] = frozenset()
    """Names of the settings that are paths: the same data may lie elsewhere when they are opened again."""

    idle: ClassVar[frozenset[str]] = frozenset()
    """Names of the settings that do not decide over the data."""

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
    """A mask of about ``test_fraction`` of the samples, at least one, drawn by seed."""
    check_fraction(test_fraction)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    mask = torch.zeros(count, dtype=torch.bool)
    mask[order[: max(1, round(test_fraction * count))]] = True
    return mask


def hash_fraction(name: str) -> float:
    """A number in [0, 1) drawn by a hash of the name: whether it is below a fraction depends on no other name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def check_fraction(test_fraction: float) -> None:
    """Refuse shares of a test split that would leave one of the splits empty.

    Raises:
        ValueError: it does not lie strictly between 0 and 1.
    """
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction={test_fraction} must lie strictly between 0 and 1")
