"""What tells one data set from another, small enough for a checkpoint, and where it lies."""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sde_gen.data.base import Splits

SPLITS = ("train", "test")


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Names of the classes, and size and fingerprint of both splits; what is not known is left out.

    Samples in memory or in a cache are known by a SHA-256 of their values and labels, samples in tar files by the
    names of the files and by where each image lies in them (:meth:`Dataset.fingerprint`). So it is known whether two
    sets are the same, wherever they lie and whatever their folder is called. An image that another version of Pillow
    decodes or resizes otherwise is another one.

    Arguments:
        class_names: names of the classes in the order of their numbers; empty where they have none.
        samples: number of samples by name of the split.
        fingerprint: fingerprint by name of the split.
        places: absolute paths by the name of the setting that says them.
    """

    class_names: tuple[str, ...] = ()
    samples: Mapping[str, int] = field(default_factory=dict)
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, splits: Splits, places: Mapping[str, str] | None = None) -> "Identity":
        """The identity of a data set; in memory every value is looked at."""
        parts = {name: getattr(splits, name) for name in SPLITS}
        return cls(
            class_names=splits.train.class_names,
            samples={name: len(part) for name, part in parts.items()},
            fingerprint={name: part.fingerprint() for name, part in parts.items()},
            places=places or {},
        )

    @classmethod
    def read(cls, stored: Any) -> "Identity":
        """The identity that :meth:`plain` was made of, from JSON; None, of an earlier version, knows nothing.

        Raises:
            ValueError: it is something else.
        """
        if stored is None:
            return cls()
        try:
            found = cls(
                class_names=tuple(stored["class_names"]),
                samples={name: stored[name]["samples"] for name in SPLITS},
                fingerprint={name: stored[name]["fingerprint"] for name in SPLITS},
                places=dict(stored["places"]),
            )
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise ValueError(f"the description of the data is not one ({error!r})") from error
        texts = [*found.class_names, *found.fingerprint.values(), *found.places.values()]
        if not all(isinstance(one, str) for one in texts) or not all(
            type(one) is int for one in found.samples.values()
        ):
            raise ValueError("the description of the data is not one (texts and whole numbers were expected)")
        return found

    def plain(self) -> dict[str, Any]:
        """The identity as JSON can say it."""
        parts = {
            name: {"samples": self.samples[name], "fingerprint": self.fingerprint[name]} for name in SPLITS
        }
        return {"class_names": list(self.class_names), **parts, "places": dict(self.places)}

    def differences(self, other: "Identity") -> list[str]:
        """What another set has otherwise, in words; nothing where either is not known, wherever the two lie."""
        found = []
        if self.class_names and other.class_names and self.class_names != other.class_names:
            found.append(f"classes {', '.join(self.class_names)} -> {', '.join(other.class_names)}")
        for name in SPLITS:
            if not self.fingerprint or not other.fingerprint:
                continue
            if self.samples[name] != other.samples[name]:
                found.append(f"{name} split {self.samples[name]:,} -> {other.samples[name]:,} samples")
            elif self.fingerprint[name] != other.fingerprint[name]:
                found.append(
                    f"{name} split of other samples ({self.fingerprint[name]} -> {other.fingerprint[name]})"
                )
        return found


def absolute(settings: Mapping[str, Any], places: Collection[str]) -> dict[str, str]:
    """Absolute paths of those settings that say a place where something lies."""
    named = {key: settings.get(key) for key in sorted(places)}
    return {
        key: os.path.abspath(value) for key, value in named.items() if isinstance(value, str) and there(value)
    }


def there(place: str) -> bool:
    """Whether there is such a file or folder, or the folder of such a pattern of files."""
    start = min((place.find(mark) for mark in "{*?[" if mark in place), default=None)
    return Path(place if start is None else os.path.dirname(place[:start]) or ".").exists()
