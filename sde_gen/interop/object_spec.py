"""An object in two forms: itself, and what a configuration says of it."""

import itertools
import sys
from typing import Any


class ObjectSpec:
    """A class of ours and the keywords of its constructor.

    Arguments:
        kind: the class, or a function that makes a value.
        keywords: numbers, texts; other recipes; classes, which stand for themselves; and lists of all these.
    """

    def __init__(self, kind: Any, /, **keywords: Any) -> None:
        self.kind = kind
        self.keywords = keywords

    def make(self) -> Any:
        """Build the object, and those it is made of first."""
        return self.kind(**{key: _made(value) for key, value in self.keywords.items()})

    def config(self) -> dict[str, Any]:
        """Describe it in plain JSON: what Hydra's ``instantiate`` turns into the same object."""
        return {"_target_": _name(self.kind), **{key: _plain(value) for key, value in self.keywords.items()}}


def _made(value: Any) -> Any:
    if isinstance(value, list):
        return [_made(part) for part in value]
    return value.make() if isinstance(value, ObjectSpec) else value


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, ObjectSpec):
        return value.config()
    if isinstance(value, type):
        return {"_target_": _name(value), "_partial_": True}
    return value


def _name(kind: Any) -> str:
    """The public path: the shortest package above the module that exports the object."""
    packages = list(itertools.accumulate(kind.__module__.split("."), lambda a, b: f"{a}.{b}"))
    name = kind.__qualname__
    exported = (path for path in packages[1:] if getattr(sys.modules.get(path), name, None) is kind)
    return f"{next(exported)}.{name}"
