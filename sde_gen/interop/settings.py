"""Settings of other projects: looked up with errors that name them, and believed only where they are possible."""

import math
import reprlib
from collections.abc import Collection, Mapping
from typing import Any

LARGEST = 2**14
"""Channels, sides and counts, at most: far more than any published network has."""

MOST_LEVELS = 16
"""Levels of a network, at most: a side of 32768 halved down to one."""

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60

MOST_TIMES = 64
"""How many times more channels a level has than the finest, at most."""

MOST_TAPS = 64
"""Taps of a filter, at most."""

MOST_CLASSES = 2**20
"""Classes, at most."""

MOST_STEPS = 100_000
"""Steps of a chain, at most."""


def given(config: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The settings, where a format cannot do without.

    Raises:
        ValueError: there are none.
    """
    if config is None:
        raise ValueError(
            "settings=... must name a JSON or YAML file with the configuration the network was made with"
        )
    return config


def section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The settings of a section.

    Raises:
        ValueError: there is none.
    """
    found = config.get(name)
    if not isinstance(found, Mapping):
        raise ValueError(f"the configuration has no section {name!r}; it has {listing(config)}")
    return found


def need(settings: Mapping[str, Any], key: str) -> Any:
    """A setting that must be there.

    Raises:
        ValueError: it is not.
    """
    if settings.get(key) is None:
        raise ValueError(f"the configuration does not say {key}; it says {listing(settings)}")
    return settings[key]


def choice(settings: Mapping[str, Any], key: str, *known: str) -> str:
    """A setting that is one of some words, in any case.

    Raises:
        ValueError: it is missing, or another.
    """
    word = need(settings, key)
    if not isinstance(word, str) or word.lower() not in known:
        raise ValueError(f"{key}={shown(word)} is not supported; expected {' or '.join(known)}")
    return word.lower()


def whole(settings: Mapping[str, Any], key: str, *, minimum: int = 1, maximum: int = LARGEST) -> int:
    """A setting that is a whole number between two others.

    Raises:
        ValueError: it is missing, or something else.
    """
    return _whole(need(settings, key), key, minimum, maximum)


def wholes(
    settings: Mapping[str, Any], key: str, *, minimum: int = 1, maximum: int = LARGEST, length: int = LARGEST
) -> list[int]:
    """A setting that is a list of whole numbers between two others, not too long.

    Raises:
        ValueError: it is missing, or something else.
    """
    return [_whole(value, key, minimum, maximum) for value in listed(settings, key, length)]


def multipliers(settings: Mapping[str, Any], key: str) -> list[float]:
    """A setting that is the channels of every level in units of the width.

    Raises:
        ValueError: it is missing, empty, or something else.
    """
    found = reals(settings, key, MOST_LEVELS)
    if not found or not all(0 < one <= MOST_TIMES for one in found):
        raise ValueError(
            f"{key}={shown(found)} is not supported; expected a number up to {MOST_TIMES} for every level"
        )
    return [int(one) if one.is_integer() else one for one in found]


def listed(settings: Mapping[str, Any], key: str, maximum: int = LARGEST) -> list[Any]:
    """A setting that is a list, not too long.

    Raises:
        ValueError: it is missing, something else or longer.
    """
    values = need(settings, key)
    if not isinstance(values, list | tuple) or len(values) > maximum:
        raise ValueError(f"{key}={shown(values)} is not supported; expected a list, of {maximum} at most")
    return list(values)


def real(settings: Mapping[str, Any], key: str) -> float:
    """A setting that is a finite number.

    Raises:
        ValueError: it is missing, or something else.
    """
    value = need(settings, key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
        raise ValueError(f"{key}={shown(value)} is not supported; expected a finite number")
    return float(value)


def reals(settings: Mapping[str, Any], key: str, maximum: int = LARGEST) -> list[float]:
    """A setting that is a list of finite numbers, not too long.

    Raises:
        ValueError: it is missing, or something else.
    """
    return [real({key: value}, key) for value in listed(settings, key, maximum)]


def flag(settings: Mapping[str, Any], key: str) -> bool:
    """A setting that is true or false.

    Raises:
        ValueError: it is missing, or something else.
    """
    value = need(settings, key)
    if not isinstance(value, bool) and value not in (0, 1):
        raise ValueError(f"{key}={shown(value)} is not supported; expected true or false")
    return bool(value)


def shown(value: Any) -> str:
    """A value in a few words of a single line, however long or deep it is."""
    return " ".join(_SHORT.repr(value).split())


def first_line(error: BaseException) -> str:
    """The first line of a message, short."""
    lines = (" ".join(line.split()) for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)[:200]


def listing(names: Collection[Any]) -> str:
    """Names of settings in a line, some of them where there are many."""
    some = [shown(str(name)).strip("'\"") for name in list(names)[:24]]
    return ", ".join(some) + (", ..." if len(names) > 24 else "") or "nothing"


def plausible(tensors: Mapping[str, Any], blocks: int) -> None:
    """Check that a network is not too large for its weights before it is made.

    A residual block has more than two tensors.

    Raises:
        ValueError: a file of so few tensors cannot hold so many blocks.
    """
    if 2 * blocks > len(tensors):
        raise ValueError(
            f"the settings ask for {blocks} residual blocks on the way down alone; {len(tensors)} tensors do not "
            "fit such a network"
        )


def _whole(value: Any, key: str, minimum: int, maximum: int) -> int:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not _finite(value) or value != int(value) or not minimum <= value <= maximum:
        raise ValueError(
            f"{key}={shown(value)} is not supported; expected a whole number from {minimum} to {maximum}"
        )
    return int(value)


def _finite(value: float) -> bool:
    """Whether a number is one that a float can be: a whole number may be larger than any."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
