"""Arguments of the constructors that nodes of a configuration name."""

import functools
import inspect
import typing
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any

from omegaconf import DictConfig

from sde_gen.cli.targets import import_object


def annotated(node: DictConfig) -> dict[str, frozenset[Any]]:
    """By argument of a node's constructor, the classes that its annotation consists of; nothing of a wrong target."""
    target = node.get("_target_")
    return _annotated(target) if isinstance(target, str) else {}


def accepts(node: DictConfig, name: str) -> bool:
    """Return whether the constructor of a node declares an argument of this name."""
    return name in annotated(node)


def takes(node: DictConfig, key: str) -> bool:
    """Return whether the constructor of a node takes an argument of this name, by name or among any others."""
    target = node.get("_target_")
    if not isinstance(target, str):
        return True
    arguments = _annotated(target)
    return not arguments or key in arguments or "**" in arguments


@functools.cache
def _annotated(target: str) -> dict[str, frozenset[Any]]:
    try:
        found = import_object(target)
        built = isinstance(found, type) and not is_dataclass(found)
        function = found.__init__ if built else found
        parameters = inspect.signature(found).parameters
        hints = typing.get_type_hints(function)
    except Exception:  # Hydra reports what is wrong with the target
        return {}
    names = {
        "**" if parameter.kind is parameter.VAR_KEYWORD else name: name
        for name, parameter in parameters.items()
    }
    return {name: frozenset(_leaves(hints.get(source, Any))) for name, source in names.items()}


def _leaves(hint: Any) -> Iterator[Any]:
    arguments = isinstance(hint, list)  # those of a Callable
    parts = hint if arguments else typing.get_args(hint)
    if not parts and not arguments:
        yield hint
    for part in parts:
        yield from _leaves(part)
