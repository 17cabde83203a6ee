"""Annotations of the places of a configuration: which classes fit them, and the signatures of classes."""

import collections.abc
import functools
import inspect
import types
import typing
from typing import Any, Protocol

from torch import Tensor, nn

NUMBERS = bool, int, float


class Network(Protocol):
    """A network of a score model."""

    def __call__(self, x: Tensor, c_noise: Tensor, *, label: Tensor | None = None, **more: Any) -> Tensor:
        """The output, with the shape of x, or more channels."""
        ...


@functools.cache
def signature(found: Any) -> tuple[set[str], dict[str, Any]]:
    """Names of the arguments, and the kinds of those that have an annotation."""
    names: set[str] = set()
    kinds: dict[str, Any] = {}
    for one in _constructors(found) if isinstance(found, type) else [found]:
        try:
            every = [*inspect.signature(one).parameters.values()][isinstance(found, type) :]
        except (TypeError, ValueError):  # of what is not written in Python
            break
        names |= {each.name for each in every if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)}
        kinds = {**_hints(one), **kinds}
        if all(each.kind is not each.VAR_KEYWORD for each in every):
            break
    return names, kinds


def _constructors(found: type) -> list[Any]:
    """Return the constructors of a class and of its ancestors, which get its keyword arguments."""
    return [vars(one)[name] for one in found.__mro__ for name in ("__init__", "__new__") if name in vars(one)]


def _hints(function: Any) -> dict[str, Any]:
    """The annotations; none where one of them names what is known to type checkers alone."""
    try:
        return typing.get_type_hints(function)
    except (AttributeError, NameError, TypeError):
        return {}


def alternatives(kind: Any) -> tuple[Any, ...]:
    """The kinds of a union, or the only one."""
    if isinstance(kind, typing.TypeVar) or kind in (object, inspect.Parameter.empty):
        return (Any,)
    union = typing.get_origin(kind) in (typing.Union, types.UnionType)
    return tuple(
        Network if one is nn.Module else one for one in (typing.get_args(kind) if union else (kind,))
    )


def fits(found: Any, partial: bool, kind: Any) -> bool:
    """Return whether an object of this package, or with ``partial`` a class in its place, is of the kind."""
    return any(_fits(found, partial, one) for one in alternatives(kind))


def _fits(found: Any, partial: bool, kind: Any) -> bool:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if not isinstance(found, type):
        return not partial and inspect.isfunction(found) and _makes_numbers(found, kind)
    if origin is type:
        return partial and is_of(found, arguments[0])
    if origin is collections.abc.Callable:
        return partial and is_of(found, arguments[1])
    return not partial and is_of(found, origin or kind)


def is_of(found: type, kind: Any) -> bool:
    """Return whether a class is of the kind: derived from it, or like the protocol."""
    if not isinstance(kind, type) or kind.__module__ == "builtins" or inspect.isabstract(found):
        return False
    if getattr(kind, "_is_protocol", False) and kind not in found.__mro__:
        methods = {name: method for name, method in vars(kind).items() if inspect.isfunction(method)}
        methods.pop("__init__", None)
        methods.pop("__subclasshook__", None)
        return found is not kind and all(_like(found, name, method) for name, method in methods.items())
    return kind in found.__mro__ and not getattr(found, "_is_protocol", False)


def _like(found: type, name: str, method: Any) -> bool:
    """Return whether a class has a method with the protocol's arguments; those of functions match by name, too.

    Networks are called with arguments by name, and plain functions without.
    """
    (required, keywords, more), function = _arguments(method), name == "__call__"
    module = function and issubclass(found, nn.Module)
    mine = getattr(found, "forward" if module else name, None)
    if not inspect.isfunction(mine):
        return False
    given, named, any_more = _arguments(mine)
    same = required == given if function else len(required) == len(given)
    return same and (keywords <= named or any_more) and (named <= keywords or more)


def _arguments(function: Any) -> tuple[list[tuple[str, Any]], set[str], bool]:
    """Names and kinds of the arguments with a position, names of those without, and whether any others are taken."""
    every = inspect.signature(function).parameters.values()
    return (
        [
            (one.name, one.kind)
            for one in every
            if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
        ],
        {one.name for one in every if one.kind is one.KEYWORD_ONLY},
        any(one.kind is one.VAR_KEYWORD for one in every),
    )


def _makes_numbers(function: Any, kind: Any) -> bool:
    """Return whether a function computes, from numbers alone, the numbers expected here, such as a table of betas."""
    kinds = _hints(function)
    made, origin = kinds.pop("return", None), typing.get_origin(kind)
    return (
        made == tuple[float, ...]
        and isinstance(origin, type)
        and issubclass(origin, collections.abc.Sequence)
        and typing.get_args(kind)[:1] == (float,)
        and kinds.keys() == signature(function)[0]
        and all(one in (*NUMBERS, collections.abc.Sequence[float]) for one in kinds.values())
    )
