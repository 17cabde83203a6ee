"""Kinds of options: which values an option takes, and how an error describes them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MANY = 10**8
"""Samples, steps and images of a call, at most."""

LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True)
class OptionKind:
    """Kind of an option.

    Arguments:
        what: the same in words.
        accepts: whether a value is one.
        text: whether digits are meant as text, as in the name of a folder.
    """

    what: str
    accepts: Callable[[Any], bool]
    text: bool = False


def whole(least: int, most: int = MANY) -> OptionKind:
    """Return the kind of whole numbers in a range."""
    return OptionKind(
        f"a whole number of at least {least} and at most {most:,}",
        lambda value: type(value) is int and least <= value <= most,
    )


def optional(kind: OptionKind) -> OptionKind:
    """Return the kind of the same values or null."""
    return OptionKind(f"{kind.what}, or null", lambda value: value is None or kind.accepts(value), kind.text)


def listed(kind: OptionKind, plural: str, least: int = 0) -> OptionKind:
    """Return the kind of lists of a least length, or of their only element alone."""

    def accepts(value: Any) -> bool:
        if isinstance(value, list):
            return len(value) >= least and all(map(kind.accepts, value))
        return kind.accepts(value)

    return OptionKind(f"a list of {plural}", accepts, kind.text)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= MANY and math.isfinite(value)


def _is_vector(value: Any) -> bool:
    """Return whether a value is a number, a list of numbers, or a list of lists of as many numbers."""
    if not isinstance(value, list) or not value:
        return _is_number(value)
    nested = [each if isinstance(each, list) else [each] for each in value]
    same = len({(isinstance(each, list), len(row)) for each, row in zip(value, nested, strict=True)}) == 1
    return same and all(_is_number(number) for row in nested for number in row)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and "\0" not in value


TEXT = OptionKind("text", _is_text, text=True)
PATH = OptionKind("a path", _is_text, text=True)
DEVICE = OptionKind("the name of a device, such as auto, cpu or cuda:1", _is_text, text=True)
SWITCH = OptionKind("true or false", lambda value: isinstance(value, bool))
NONNEGATIVE = OptionKind("a finite number of at least 0", lambda value: _is_number(value) and value >= 0)
NUMBER = OptionKind("a finite number", _is_number)
CAPTION = OptionKind("text", lambda value: isinstance(value, str) and "\0" not in value, text=True)
VECTOR = OptionKind("a list of finite numbers, or a list of such lists", _is_vector)
CLASS = OptionKind("a class", lambda value: type(value) is int or _is_text(value))
IMAGE = OptionKind(
    "a file, or the index of a held-out image", lambda value: type(value) is int or _is_text(value)
)
OBJECT = OptionKind(
    "an object", lambda value: isinstance(value, dict) and isinstance(value.get("_target_"), str)
)
CONVERSION = OptionKind(
    "none, partial, object or all", lambda value: value in ("none", "partial", "object", "all")
)
LOGGER = OptionKind("a name, or an object", lambda value: _is_text(value) or OBJECT.accepts(value))
FORMAT = OptionKind("npz or png", lambda value: value in ("npz", "png"))
RUNS = OptionKind("a path, or a list of paths", listed(PATH, "paths", least=1).accepts, text=True)
SEED = whole(0, LARGEST_SEED)
NAMES, COUNTS = listed(TEXT, "names"), listed(whole(1), f"whole numbers from 1 to {MANY:,}")
