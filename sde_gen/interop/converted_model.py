"""Network of another project, converted to sde_gen."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor


class ObjectSpec:
    """A class and the keywords of its constructor.

    Arguments:
        kind: the class, or a function that makes a value.
        keywords: numbers, strings, other specifications, classes (passed as they are), and lists and dictionaries of
            all these.
    """

    def __init__(self, kind: Any, /, **keywords: Any) -> None:
        self.kind = kind
        self.keywords = keywords

    def make(self) -> Any:
        """Build the object, its parts first."""
        return self.kind(**{key: _built(value) for key, value in self.keywords.items()})

    def config(self) -> dict[str, Any]:
        """Return plain JSON that Hydra's ``instantiate`` turns into the same object."""
        return {
            "_target_": public_path(self.kind),
            **{key: _plain(value) for key, value in self.keywords.items()},
        }


def public_path(kind: Any) -> str:
    """Return the path of the outermost package that exports a class or function, joined with its name."""
    parts = kind.__module__.split(".")
    modules = (".".join(parts[:depth]) for depth in range(2, len(parts) + 1))
    exports = (module for module in modules if vars(sys.modules[module]).get(kind.__qualname__) is kind)
    return f"{next(exports, kind.__module__)}.{kind.__qualname__}"


def _built(value: Any) -> Any:
    if isinstance(value, list):
        return [_built(part) for part in value]
    if isinstance(value, dict):
        return {key: _built(part) for key, part in value.items()}
    return value.make() if isinstance(value, ObjectSpec) else value


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, ObjectSpec):
        return value.config()
    if isinstance(value, type):
        return {"_target_": public_path(value), "_partial_": True}
    return value


PARTS = "parts/"
"""Beginning of a path inside the run folder, in a configuration."""


@dataclass(frozen=True, kw_only=True)
class ConvertedModel:
    """Converted network with configuration and weights, from which a run folder is written.

    A pipeline is a network with parts in its run folder: other run folders, and files that are copied. Its
    configuration names them by ``parts/NAME``; the SHA-256 of a run is filled in where it is null beside its name.

    Arguments:
        config: configuration as stored by a training: ``model``, ``sde``, ``parametrization``, ``codec`` and
            ``conditioning``, each a ``_target_`` with the keywords of its constructor. Plain JSON. With
            ``solver``, ``grid`` and ``sampling`` (steps and denoise_final) it has the default of samples.
        shape: event shape (C, H, W) of the data.
        levels: number of integer levels of the data, None for continuous data.
        classes: number of classes, 0 for a network without labels.
        state: weights by name.
        unused: tensors of the file that are ignored on purpose, each with the reason.
        notes: further differences from the original, a sentence each.
        runs: by name, models that become run folders ``parts/NAME``.
        files: by path in the run folder, files that are copied.
        contents: by path in the run folder, further files.
        scratch: temporary folder of some of these files, which is deleted with this object.
    """

    config: dict[str, Any]
    shape: tuple[int, ...]
    levels: int | None
    classes: int
    state: dict[str, Tensor]
    unused: dict[str, str]
    notes: tuple[str, ...] = ()
    runs: Mapping[str, "ConvertedModel"] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    contents: Mapping[str, bytes] = field(default_factory=dict)
    scratch: object = None

    def noted(self, *notes: str) -> "ConvertedModel":
        """Return the model with further notes."""
        return replace(self, notes=(*self.notes, *notes))
