"""Checked access to settings of other projects: errors name the setting, and impossible values are rejected."""

import math
import reprlib
from collections.abc import Collection, Mapping
from typing import Any

LARGEST = 2**14
"""Maximum of channels, sides and counts: far more than any published network has."""

MOST_LEVELS = 16
"""Maximum number of levels: a side of 32768 halved to one."""

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60

MOST_TIMES = 64
"""Maximum channel multiplier of a level."""

MOST_TAPS = 64
"""Maximum number of filter taps."""

MOST_CLASSES = 2**20
"""Maximum number of classes."""

MOST_STEPS = 100_000
"""Maximum number of steps of a chain."""


def given(config: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return the settings of a format that requires them.

    Raises:
        ValueError: there are no settings.
    """
    if config is None:
        raise ValueError(
            "settings=... must name a JSON or YAML file with the configuration the network was made with"
        )
    return config


def section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the settings of a section.

    Raises:
        ValueError: the section is missing.
    """
    found = config.get(name)
    if not isinstance(found, Mapping):
        raise ValueError(f"the configuration has no section {name!r}; it has {listing(config)}")
    return found


def reject_unknown(config: Mapping[str, Any], known: Collection[str], name: str) -> None:
    """Check that diffusers' class ``name`` has every setting; names with an underscore in front are about the file.

    Raises:
        ValueError: some settings are not known.
    """
    if unknown := [key for key in config if key not in known and not key.startswith("_")]:
        raise ValueError(f"{name} has no setting {listing(unknown)}")


def need(settings: Mapping[str, Any], key: str) -> Any:
    """Return a required setting.

    Raises:
        ValueError: the setting is missing.
    """
    if settings.get(key) is None:
        raise ValueError(f"the configuration does not contain {key}; it contains {listing(settings)}")
    return settings[key]


def choice(settings: Mapping[str, Any], key: str, *known: str) -> str:
    """Return a setting with one of several values, in upper or lower case.

    Raises:
        ValueError: the setting is missing or has another value.
    """
    word = need(settings, key)
    if not isinstance(word, str) or word.lower() not in known:
        raise ValueError(f"{key}={shown(word)} is not supported; expected {' or '.join(known)}")
    return word.lower()


def whole(settings: Mapping[str, Any], key: str, *, minimum: int = 1, maximum: int = LARGEST) -> int:
    """Return an integer setting within bounds.

    Raises:
        ValueError: the setting is missing or has another type.
    """
    return _whole(need(settings, key), key, minimum, maximum)


def wholes(
    settings: Mapping[str, Any], key: str, *, minimum: int = 1, maximum: int = LARGEST, length: int = LARGEST
) -> list[int]:
    """Return a setting that is a list of integers within bounds, with bounded length.

    Raises:
        ValueError: the setting is missing or has another type.
    """
    return [_whole(value, key, minimum, maximum) for value in listed(settings, key, length)]


def multipliers(settings: Mapping[str, Any], key: str) -> list[float]:
    """Return the channel multipliers of all levels.

    Raises:
        ValueError: the setting is missing, empty or has another type.
    """
    found = reals(settings, key, MOST_LEVELS)
    if not found or not all(0 < number <= MOST_TIMES for number in found):
        raise ValueError(
            f"{key}={shown(found)} is not supported; expected a number up to {MOST_TIMES} for every level"
        )
    return [int(number) if number.is_integer() else number for number in found]


def listed(settings: Mapping[str, Any], key: str, maximum: int = LARGEST) -> list[Any]:
    """Return a setting that is a list with bounded length.

    Raises:
        ValueError: the setting is missing, too long or has another type.
    """
    values = need(settings, key)
    if not isinstance(values, list | tuple) or len(values) > maximum:
        raise ValueError(f"{key}={shown(values)} is not supported; expected a list, of {maximum} at most")
    return list(values)


def real(settings: Mapping[str, Any], key: str) -> float:
    """Return a setting that is a finite number.

    Raises:
        ValueError: the setting is missing or has another type.
    """
    value = need(settings, key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
        raise ValueError(f"{key}={shown(value)} is not supported; expected a finite number")
    return float(value)


def reals(settings: Mapping[str, Any], key: str, maximum: int = LARGEST) -> list[float]:
    """Return a setting that is a list of finite numbers, with bounded length.

    Raises:
        ValueError: the setting is missing or has another type.
    """
    return [real({key: value}, key) for value in listed(settings, key, maximum)]


def flag(settings: Mapping[str, Any], key: str) -> bool:
    """Return a boolean setting.

    Raises:
        ValueError: the setting is missing or has another type.
    """
    value = need(settings, key)
    if not isinstance(value, bool) and value not in (0, 1):
        raise ValueError(f"{key}={shown(value)} is not supported; expected true or false")
    return bool(value)


def shown(value: Any) -> str:
    """Format any value as a short single line."""
    return " ".join(_SHORT.repr(value).split())


def first_line(error: BaseException) -> str:
    """Return the first line of a message, shortened."""
    lines = (" ".join(line.split()) for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)[:200]


def listing(names: Collection[Any]) -> str:
    """Format names of settings as a single line, with an ellipsis if there are many."""
    some = [shown(str(name)).strip("'\"") for name in list(names)[:24]]
    return ", ".join(some) + (", ..." if len(names) > 24 else "") or "nothing"


def plausible(tensors: Mapping[str, Any], blocks: int) -> None:
    """Check that a network is not too large for its weights before building it.

    A residual block has more than two tensors.

    Raises:
        ValueError: the file has too few tensors for the number of blocks.
    """
    if 2 * blocks > len(tensors):
        raise ValueError(
            f"the settings require {blocks} residual blocks in the encoder alone, too many for {len(tensors)} tensors"
        )


def _whole(value: Any, key: str, minimum: int, maximum: int) -> int:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not _finite(value) or value != int(value) or not minimum <= value <= maximum:
        raise ValueError(
            f"{key}={shown(value)} is not supported; expected a whole number from {minimum} to {maximum}"
        )
    return int(value)


def _finite(value: float) -> bool:
    """Return whether a number is finite as a float, which large integers are not."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
