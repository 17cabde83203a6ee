"""Identity of a data set, small enough to be stored in a checkpoint, and its location."""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sde_gen.data.base import Splits

SPLITS = ("train", "test")


@dataclass(frozen=True, kw_only=True)
class DataIdentity:
    """Names of the classes, and size and fingerprint of both splits; unknown entries are omitted.

    Samples in memory or in a cache are identified by a SHA-256 of their values and labels, samples in tar files by the
    names of the files and the offset of each image (:meth:`Dataset.fingerprint`). So the comparison of two data sets
    does not depend on their location. An image that another version of Pillow decodes or resizes differently counts as
    a different image.

    Arguments:
        class_names: names of the classes in order of their numbers; empty if unnamed.
        samples: number of samples by name of the split.
        fingerprint: fingerprint by name of the split.
        places: absolute paths by name of the setting.
    """

    class_names: tuple[str, ...] = ()
    samples: Mapping[str, int] = field(default_factory=dict)
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, splits: Splits, places: Mapping[str, str] | None = None) -> "DataIdentity":
        """Return the identity of a data set; data in memory are hashed completely."""
        parts = {name: getattr(splits, name) for name in SPLITS}
        return cls(
            class_names=splits.train.class_names,
            samples={name: len(part) for name, part in parts.items()},
            fingerprint={name: part.fingerprint() for name, part in parts.items()},
            places=places or {},
        )

    @classmethod
    def read(cls, stored: Any) -> "DataIdentity":
        """Restore an identity from the JSON of :meth:`plain`; None, stored by earlier versions, is an unknown identity.

        Raises:
            ValueError: the JSON has another form.
        """
        if stored is None:
            return cls()
        try:
            identity = cls(
                class_names=tuple(stored["class_names"]),
                samples={name: stored[name]["samples"] for name in SPLITS},
                fingerprint={name: stored[name]["fingerprint"] for name in SPLITS},
                places=dict(stored["places"]),
            )
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise ValueError(f"the description of the data is invalid ({error!r})") from error
        texts = [*identity.class_names, *identity.fingerprint.values(), *identity.places.values()]
        if not all(isinstance(count, str) for count in texts) or not all(
            type(count) is int for count in identity.samples.values()
        ):
            raise ValueError("the description of the data is invalid (expected strings and integers)")
        return identity

    def plain(self) -> dict[str, Any]:
        """Return the identity as plain JSON."""
        parts = {
            name: {"samples": self.samples[name], "fingerprint": self.fingerprint[name]} for name in SPLITS
        }
        return {"class_names": list(self.class_names), **parts, "places": dict(self.places)}

    def differences(self, other: "DataIdentity") -> list[str]:
        """Describe the differences from another data set; empty if there are none or either is unknown."""
        differences = []
        if self.class_names and other.class_names and self.class_names != other.class_names:
            differences.append(f"classes {', '.join(self.class_names)} -> {', '.join(other.class_names)}")
        for name in SPLITS:
            if not self.fingerprint or not other.fingerprint:
                continue
            if self.samples[name] != other.samples[name]:
                differences.append(f"{name} split {self.samples[name]:,} -> {other.samples[name]:,} samples")
            elif self.fingerprint[name] != other.fingerprint[name]:
                differences.append(
                    f"{name} split has other samples ({self.fingerprint[name]} -> {other.fingerprint[name]})"
                )
        return differences


def absolute(settings: Mapping[str, Any], places: Collection[str]) -> dict[str, str]:
    """Return the absolute paths of those settings that name an existing location."""
    named = {key: settings.get(key) for key in sorted(places)}
    return {
        key: os.path.abspath(value) for key, value in named.items() if isinstance(value, str) and there(value)
    }


def there(place: str) -> bool:
    """Return True if the file or folder, or the parent folder of the pattern, exists."""
    start = min((place.find(mark) for mark in "{*?[" if mark in place), default=None)
    return Path(place if start is None else os.path.dirname(place[:start]) or ".").exists()
