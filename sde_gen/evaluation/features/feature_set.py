"""Features of a set of images, or only their mean and covariance."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from sde_gen.evaluation.features.base import Features, check_images
from sde_gen.evaluation.features.statistics import Statistics


@dataclass(frozen=True, kw_only=True)
class FeatureSet:
    """Features of a set of images.

    Arguments:
        what: name of the set in messages, such as a file.
        features: float32 with shape (n, d) on the CPU; None for a file of statistics.
        logits: logits with shape (n, classes); None without a classifier.
        given: statistics read from a file instead of features.
        notes: notes about the preprocessing of the images.
    """

    what: str
    features: Tensor | None = None
    logits: Tensor | None = None
    given: Statistics | None = None
    notes: tuple[str, ...] = ()
    about: dict[str, str] = field(default_factory=dict)

    @cached_property
    def statistics(self) -> Statistics:
        """Mean and covariance."""
        return self.given if self.given is not None else Statistics.of(self.vectors("statistics"), self.about)

    @property
    def n(self) -> int | None:
        """Number of images, where it is known."""
        return len(self.features) if self.features is not None else self.statistics.n

    @property
    def d(self) -> int:
        """Number of features."""
        return self.features.shape[1] if self.features is not None else len(self.statistics.mean)

    def vectors(self, needed_by: str) -> Tensor:
        """Return the features.

        Raises:
            ValueError: only statistics are known.
        """
        if self.features is None:
            raise ValueError(
                f"{needed_by} needs the images of the reference, but {self.what} holds only their mean and covariance; "
                "give reference=train or a folder of images"
            )
        return self.features


def extract(features: Features, images: Tensor, *, what: str = "images", batch_size: int = 64) -> FeatureSet:
    """Extract the features of images.

    Arguments:
        features: the extractor.
        images: uint8 with shape (n, C, H, W).
        what: name of the set, for messages.
        batch_size: images of a batch.

    Raises:
        ValueError: the images have another type or shape.
    """
    check_images(images)
    parts = [features(part) for part in _batches(images, batch_size)]
    return FeatureSet(
        what=what,
        features=torch.cat([part.features.cpu() for part in parts]),
        logits=None
        if parts[0].logits is None
        else torch.cat([part.logits.cpu() for part in parts if part.logits is not None]),
        notes=features.note(images),
        about=features.about(),
    )


def _batches(images: Tensor, size: int) -> Iterator[Tensor]:
    for first in range(0, len(images), size):
        yield images[first : first + size]
