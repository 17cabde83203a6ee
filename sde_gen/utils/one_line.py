"""Messages about untrusted files: in one printable line of limited length."""

import reprlib
from typing import Any

LONGEST = 400
"""Letters of a message, at most."""

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60
_SHORT.maxlevel, _SHORT.maxdict, _SHORT.maxlist = 2, 4, 4


def brief(value: Any) -> str:
    """Return the representation of a value, shortened and printable."""
    return _SHORT.repr(value)


def line(text: str, most: int = LONGEST) -> str:
    """Return a text in one printable line; where it is longer, its middle is left out."""
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    half = (most - 5) // 2
    return text if len(text) <= most else f"{text[:half]} ... {text[-half:]}"
