"""Abstract base class of metrics that compare samples with a reference set."""

import abc
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from sde_gen.evaluation.features.base import Features
from sde_gen.evaluation.features.feature_set import FeatureSet, extract
from sde_gen.utils.arguments import Checked

FULL = 50_000
"""Number of samples of FID in the literature; other numbers are part of the name."""


class Quantity(NamedTuple):
    """Value with its standard error.

    Arguments:
        value: the value.
        se: standard error; NaN where it cannot be estimated.
        how: method of the standard error and the sources of variation that it covers.
    """

    value: float
    se: float
    how: str


@dataclass(frozen=True, kw_only=True)
class SampleResult:
    """Result of a metric.

    Arguments:
        quantities: numbers by name; the first one is the metric.
        n: number of samples.
        n_reference: number of reference images, where it is known.
        settings: extractor, SHA-256 of its weights, resizing, and settings of the metric.
        notes: caveats, one sentence each.
    """

    quantities: Mapping[str, Quantity]
    n: int
    n_reference: int | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the metric, such as FID@5000."""
        return next(iter(self.quantities))

    @property
    def value(self) -> float:
        """Value of the metric."""
        return self.quantities[self.name].value

    @property
    def se(self) -> float:
        """Standard error of the value."""
        return self.quantities[self.name].se


def at(name: str, n: int) -> str:
    """Return the name of a metric with its number of samples, unless that is the literature's 50,000."""
    return name if n == FULL else f"{name}@{n}"


class SampleMetric(Checked, abc.ABC):
    """Metric that compares features of samples with those of a reference set.

    Attributes:
        what: description of the metric, for tables.
        larger_is_better: True if larger values are better.
        of_samples: True for metrics of samples, False for metrics of densities.
        of_posteriors: False; True for metrics of conditional samples.
        uses_held_out: True if images held out of training are needed too.
        uses_images: True if the features of the reference are needed, not only their mean and covariance.
    """

    features: Features
    what: ClassVar[str]
    larger_is_better: ClassVar[bool] = False
    of_samples: ClassVar[bool] = True
    of_posteriors: ClassVar[bool] = False
    uses_held_out: ClassVar[bool] = False
    uses_images: ClassVar[bool] = True

    @abc.abstractmethod
    def compare(
        self, samples: FeatureSet, reference: FeatureSet, held_out: FeatureSet | None = None
    ) -> SampleResult:
        """Compare features.

        Arguments:
            samples: features of the samples.
            reference: features of the training images.
            held_out: features of images held out of training, for metrics with ``uses_held_out``.

        Raises:
            ValueError: too few images, or the reference lacks what the metric needs.
        """

    def __call__(
        self, images: Tensor, reference: Tensor, held_out: Tensor | None = None, *, batch_size: int = 64
    ) -> SampleResult:
        """Compare two sets of images.

        Arguments:
            images: samples, uint8 with shape (n, C, H, W).
            reference: training images, uint8 with shape (n', C, H, W).
            held_out: images held out of training, for metrics with ``uses_held_out``.
            batch_size: batch size of the extractor.

        Raises:
            ValueError: as :meth:`compare`; or the images have other types or shapes.
        """
        if images.shape[1:] != reference.shape[1:]:
            raise ValueError(
                f"samples have shape {tuple(images.shape[1:])}, the reference {tuple(reference.shape[1:])}; "
                "resize one of them first: a metric of both resolutions would compare the resizing"
            )
        sets = {"samples": images, "reference": reference, "held out": held_out}
        found = {
            name: extract(self.features, part, what=name, batch_size=batch_size)
            for name, part in sets.items()
            if part is not None
        }
        return self.checked(found["samples"], found["reference"], found.get("held out"))

    def checked(
        self, samples: FeatureSet, reference: FeatureSet, held_out: FeatureSet | None = None
    ) -> SampleResult:
        """Compare features after checking that they come from one extractor; notes are issued as warnings.

        Raises:
            ValueError: as :meth:`compare`; or the features are those of another extractor.
        """
        assert samples.n is not None
        self.check_features(samples, reference)
        self.check_sizes(samples.n, reference.n)
        if self.uses_held_out and held_out is None:
            raise ValueError(f"{type(self).__name__} needs images held out of training")
        result = self.compare(samples, reference, held_out)
        for note in result.notes:
            warnings.warn(note, stacklevel=3)
        return result

    def check_sizes(self, n: int, n_reference: int | None) -> None:
        """Check numbers of images, before they are drawn.

        Arguments:
            n: number of samples.
            n_reference: number of reference images; None where it is unknown.

        Raises:
            ValueError: they are too few; the message has the number needed.
        """
        del n_reference
        if n < 2:
            raise ValueError(f"n={n} is too small for a metric of samples; give at least n=2")

    def check_features(self, samples: FeatureSet, reference: FeatureSet) -> None:
        """Check that features are of one extractor and of the kind that the metric needs; one image is enough.

        Raises:
            ValueError: they are not.
        """
        if self.uses_images:
            reference.vectors(type(self).__name__)
        if samples.d != reference.d:
            raise ValueError(
                f"{reference.what} has {reference.d} features, {self.features.name} has {samples.d}; it was made with "
                "another extractor"
            )
        known = reference.given.about if reference.given is not None else {}
        ours = self.features.about()
        for key in ("features", "sha256"):
            if known.get(key, ours[key]) != ours[key]:
                raise ValueError(
                    f"{reference.what} was made with {key} {known[key]}, the samples with {ours[key]}; "
                    "use one extractor"
                )

    def result(
        self,
        quantities: Mapping[str, Quantity],
        samples: FeatureSet,
        reference: FeatureSet,
        *notes: str,
        **settings: Any,
    ) -> SampleResult:
        """Return a result with extractor, numbers of images and settings."""
        assert samples.n is not None
        return SampleResult(
            quantities=quantities,
            n=samples.n,
            n_reference=reference.n,
            settings={**self.features.about(), **settings},
            notes=tuple(dict.fromkeys([*samples.notes, *notes])),
        )
