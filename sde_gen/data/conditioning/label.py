"""Class labels with random dropout."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from sde_gen.data.base import Dataset
from sde_gen.data.conditioning.base import SingleConditioning, check_dropout, require

MOST_LISTED = 5
"""Classes that a message names."""


@dataclass(frozen=True, kw_only=True)
class Label(SingleConditioning):
    """Class labels, randomly replaced by the null class for classifier-free guidance.

    Source: Ho and Salimans, 2022, arXiv:2207.12598, algorithm 1.

    Arguments:
        classes: number of classes, also the number of the null class.
        dropout: probability that a label is dropped; the paper's are 0.1 to 0.5.

    Raises:
        ValueError: there are no classes, or dropout lies outside [0, 1].
    """

    classes: int
    dropout: float = 0.1

    name: ClassVar[str] = "label"
    key: ClassVar[str] = "label"

    def __post_init__(self) -> None:
        if self.classes < 1:
            raise ValueError("the data have no labels to condition on; use conditioning=none")
        check_dropout(self.dropout, "labels")

    @property
    def sizes(self) -> dict[str, int]:
        """Return the number of classes."""
        return {"num_classes": self.classes}

    def fit(self, train: Dataset) -> "Label":
        """Return the conditioning.

        Raises:
            ValueError: the data have no labels, or one class alone.
        """
        if self.classes == 1:
            raise ValueError("all data are of one class, so a label says nothing; use conditioning=none")
        return super().fit(train)

    def unseen(self, train: Dataset, test: Dataset) -> list[str]:
        """Describe the classes without a training sample, with the numbers of their test samples."""
        counts, of_test = (
            torch.bincount(require(self.name, part.conditions), minlength=self.classes).tolist()
            for part in (train, test)
        )
        names = train.class_names or tuple(map(str, range(self.classes)))
        missing = [k for k, count in enumerate(counts) if count == 0]
        if not missing:
            return []
        listed = [f"{names[k]} ({of_test[k]} of {len(test):,})" for k in missing]
        listed[0] = f"{listed[0][:-1]} test samples)"
        some = listed[:MOST_LISTED] + (
            [f"{len(listed) - MOST_LISTED} more"] if len(listed) > MOST_LISTED else []
        )
        listing = " and ".join([", ".join(some[:-1]), some[-1]] if len(some) > 1 else some)
        return [
            f"there is no training sample of {listing}, so the network does not learn them: remove these classes, or "
            "draw another test split"
        ]

    def transform(self, rows: Tensor) -> Tensor:
        """Return the labels."""
        return rows

    def null_row(self) -> Tensor:
        """Return the null class, the number of classes."""
        return torch.tensor([self.classes])

    def default(self, count: int) -> dict[str, Tensor]:
        """Return all classes in turn."""
        return {self.key: torch.arange(count) % self.classes}

    def parse(self, values: Sequence[Any], class_names: Sequence[str]) -> Tensor:
        """Return the numbers of classes given by number or name."""
        labels = [_number(value, class_names) for value in values]
        if not labels or any(not 0 <= label < self.classes for label in labels):
            listing = f" ({', '.join(class_names)})" if class_names else ""
            raise ValueError(f"label={_listed(values)}: the classes are 0 to {self.classes - 1}{listing}")
        return torch.tensor(labels)


def _listed(values: Sequence[Any]) -> Any:
    return values[0] if len(values) == 1 else list(values)


def _number(label: Any, names: Sequence[str]) -> int:
    """Return the number of a class given by its number or name; -1 for an unknown class."""
    if isinstance(label, int) and not isinstance(label, bool):
        other = names.index(str(label)) if str(label) in names else label
        if other != label:
            warnings.warn(
                f"label={label} is the class of this number, not the class of this name, which is number {other}; "
                f"a name is quoted twice: label=\"'{label}'\"",
                stacklevel=3,
            )
        return label
    return names.index(label) if label in names else -1
