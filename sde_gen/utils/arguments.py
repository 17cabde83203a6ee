"""Validation of constructor arguments by their annotations, with one-line errors.

The signature of a class is sufficient: numbers are numbers and finite, whole numbers are whole, texts are texts,
and an object is an object of the annotated class, not the class itself. Ranges remain with the classes.
"""

import abc
import functools
import inspect
import math
import os
import reprlib
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from decimal import Decimal
from numbers import Integral, Real
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

LARGEST = 2**64
"""Bound of integers: those of PyTorch and NumPy are smaller."""

LISTS = (tuple, list, Sequence)
"""Annotations of lists, which accept any sequence, such as an array or a list of a YAML file."""


class Checked:
    """A base whose subclasses check the arguments of their constructors against the annotations.

    A dataclass checks its fields before its own ``__post_init__``, any other class the arguments of its ``__init__``.
    Annotate with ``Annotated[T, "what to do"]`` where the message should say more.
    """

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        if "__init__" in vars(cls):
            setattr(cls, "__init__", checked(cls.__init__))  # noqa: B010  (a method, as the type checker sees it)
        if "__post_init__" in vars(cls):
            setattr(cls, "__post_init__", _after_check(cls.__post_init__))  # noqa: B010

    def __post_init__(self) -> None:
        """Check the fields of a dataclass."""
        _check_fields(self)


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function so that it checks its arguments by :func:`check_arguments`."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        check_arguments(function, {**dict(zip(_parameters(function), args, strict=False)), **kwargs})
        return function(*args, **kwargs)

    return wrapper


def _after_check(post_init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(post_init)
    def wrapper(self: Any, *variables: Any) -> None:
        _check_fields(self)
        post_init(self, *variables)

    return wrapper


def _check_fields(made: Any) -> None:
    cls: Callable[..., Any] = type(made)
    check_arguments(cls, {name: getattr(made, name) for name in _parameters(cls) if hasattr(made, name)})


@dataclass(frozen=True)
class Planned:
    """An object that a configuration describes and that is not built yet.

    Arguments:
        target: the class or function that will make it.
        partial: whether the target itself is wanted, with some arguments fixed.
    """

    target: Callable[..., Any]
    partial: bool = False

    def is_a(self, kind: type) -> bool:
        """Return whether the object will be an instance of a class; results of functions are not checked here."""
        if self.partial:
            return issubclass(functools.partial, kind) or (kind is type and isinstance(self.target, type))
        return not isinstance(self.target, type) or issubclass(self.target, kind)

    def __repr__(self) -> str:
        return f"{getattr(self.target, '__name__', self.target)}" + ("" if self.partial else "()")


class Parameter(NamedTuple):
    """An annotated argument, and whether it may be infinite, as it may where that is its default."""

    hint: Any
    infinite: bool


@functools.cache
def _parameters(target: Callable[..., Any]) -> dict[str, Parameter]:
    """The arguments of a class or function in their order; none where Python does not know them."""
    function = target.__init__ if isinstance(target, type) else target  # type: ignore[misc]
    try:
        hints = typing.get_type_hints(target if is_dataclass(target) else function, include_extras=True)
        signature = inspect.signature(function)
    except (NameError, TypeError, ValueError):  # a name for type checkers alone, or a function written in C
        return {}
    return {
        name: Parameter(hints.get(name, Any), _infinite(parameter.default))
        for name, parameter in signature.parameters.items()
        if parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    }


def _infinite(default: Any) -> bool:
    return isinstance(default, float) and math.isinf(default)


def check_arguments(
    target: Callable[..., Any], given: Mapping[str, Any], settings: Mapping[str, str] | None = None
) -> None:
    """Hold arguments against the annotations of a class or function.

    Arguments:
        target: the class or function.
        given: some of its arguments; those that it does not have are left to Python.
        settings: the names by which a configuration sets them; None for a call from Python.

    Raises:
        ValueError: one of them does not match its annotation.
    """
    parameters = _parameters(target)
    for name, value in given.items():
        parameter = parameters.get(name)
        if parameter is not None and not _fits(value, *parameter):
            words = PYTHON if settings is None else YAML
            place = name if settings is None else settings.get(name, name)
            raise ValueError(
                f"{place}={_shown(value, words)} must be {_expected(parameter, words)}"
                f"{_limit(value, parameter.hint)}{_advice(value, parameter.hint)}"
            )


def _fits(value: Any, hint: Any, infinite: bool) -> bool:
    """Return whether a value matches an annotation; unsupported annotations match everything."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    kind = hint if origin is None else origin
    if kind is Annotated:
        return _fits(value, parts[0], infinite)
    if kind in (typing.Union, types.UnionType):
        return any(_fits(value, part, infinite) for part in parts)
    if kind is Literal:
        return value in parts
    if kind in (None, types.NoneType):
        return value is None
    if kind is int:
        return not isinstance(value, bool) and isinstance(value, Integral) and abs(int(value)) < LARGEST
    if kind is float:
        return _is_number(value, infinite)
    if kind is Callable:
        return callable(value) or isinstance(value, Planned)
    if kind is Path:
        return isinstance(value, str | os.PathLike)
    if kind is dict:
        return isinstance(value, Mapping)
    if kind is Iterable:
        return hasattr(value, "__iter__") and not isinstance(value, str | type)
    if kind in LISTS:
        return _is_list(value, parts, infinite)
    if kind in (Any, object) or not isinstance(kind, type):
        return True
    if getattr(kind, "_is_protocol", False):
        return not isinstance(value, type) and _follows(value, kind)
    return value.is_a(kind) if isinstance(value, Planned) else isinstance(value, kind)


def _is_number(value: Any, infinite: bool) -> bool:
    if isinstance(value, bool) or not isinstance(value, Real) or _overflows(value):
        return False
    try:
        number = float(value)
    except OverflowError:
        return False
    return math.isfinite(number) or (infinite and math.isinf(number))


def _overflows(value: Any) -> bool:
    """Return whether a whole number is none of the 64-bit integers, as which PyTorch takes it."""
    return isinstance(value, Integral) and not -(2**63) <= int(value) < 2**63


def _is_list(value: Any, parts: tuple[Any, ...], infinite: bool) -> bool:
    if isinstance(value, Planned):
        return not isinstance(value.target, type)  # such as a function that makes a table
    whole = all(hasattr(value, name) for name in ("__len__", "__iter__", "__getitem__"))
    if not whole or isinstance(value, str | bytes | Mapping | type):
        return False
    if hasattr(value, "tolist"):  # an array or a tensor
        value = value.tolist()
        if not isinstance(value, list):
            return False
    if len(parts) == 1 or (len(parts) == 2 and parts[1] is ...):
        return all(_fits(item, parts[0], infinite) for item in value)
    same = len(parts) == len(value)
    return not parts or (same and all(_fits(*pair, infinite) for pair in zip(value, parts, strict=True)))


def _follows(value: Any, protocol: type) -> bool:
    """Return whether an object has at least one method of a protocol; planned objects pass."""
    methods = (
        name
        for name, member in vars(protocol).items()
        if callable(member) and (name == "__call__" or not name.startswith("_"))
    )
    return isinstance(value, Planned) or any(hasattr(value, name) for name in methods)


PYTHON = {None: "None", True: "True", False: "False"}
YAML = {None: "null", True: "true", False: "false"}


def _shown(value: Any, words: Mapping[Any, str]) -> str:
    """Return the value as the user would write it, cut where it is long."""
    if value is None or isinstance(value, bool):
        return words[value]
    if isinstance(value, str) and words is YAML:
        return reprlib.repr(value)[1:-1]
    text = value.__name__ if isinstance(value, type) else repr(value)
    line = " ".join(text.split())
    return line if len(line) <= 80 else f"{line[:60]}... ({type(value).__name__})"


def _expected(parameter: Parameter, words: Mapping[Any, str]) -> str:
    hint, infinite = parameter
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    kind = hint if origin is None else origin
    if kind is Annotated:
        return _expected(Parameter(parts[0], infinite), words)
    if kind in (typing.Union, types.UnionType):
        return " or ".join(_expected(Parameter(part, infinite), words) for part in parts)
    if kind is Literal:
        return " or ".join(map(str, parts))
    if kind in (None, types.NoneType):
        return words[None]
    if kind is bool:
        return f"{words[True]} or {words[False]}"
    if kind is Callable:
        return "a function"
    if kind in (*LISTS, Iterable):
        count = f"{len(parts)} " if parts and ... not in parts and kind is tuple else ""
        return f"a list of {count}{PLURALS.get(parts[0] if parts else None, 'values')}"
    if kind is float and infinite:
        return "a number"
    return SINGULARS.get(kind) or _object_of(kind)


SINGULARS: dict[Any, str] = {
    int: "a whole number",
    float: "a finite number",
    str: "text",
    Path: "a path",
    dict: "a mapping",
}
PLURALS: dict[Any, str] = {int: "whole numbers", float: "finite numbers", str: "texts"}


def _object_of(kind: Any) -> str:
    name = getattr(kind, "__name__", str(kind))
    examples = sorted(_names_below(kind))[:3] if _is_abstract(kind) else []
    return f"an object of {name}" + (f", such as {', '.join(examples)}" if examples else "")


def _is_abstract(kind: Any) -> bool:
    return inspect.isabstract(kind) or abc.ABC in getattr(kind, "__bases__", ())


def _names_below(kind: type) -> set[str]:
    """Return the names of public subclasses in the same package."""
    home = kind.__module__.rpartition(".")[0]
    below: list[type] = kind.__subclasses__()
    names = {
        f"{subclass.__name__}()"
        for subclass in below
        if not _is_abstract(subclass)
        and subclass.__module__.startswith(home)
        and not subclass.__name__.startswith("_")
    }
    return names.union(*map(_names_below, below))


def _limit(value: Any, hint: Any) -> str:
    """Return the limit of whole numbers if a value, or one in a list, is beyond it where no other number is taken."""
    if float in _leaves(hint):
        return ""
    values = value if isinstance(value, list | tuple) else [value]
    large = any(isinstance(each, Integral) and abs(int(each)) >= LARGEST for each in values)
    return f" between -{LARGEST:,} and {LARGEST:,}" if large else ""


def _advice(value: Any, hint: Any) -> str:
    """Return a hint for correcting the value, or an empty string."""
    if isinstance(value, type) and any(_is_subclass(value, kind) for kind in _leaves(hint)):
        return f"; {value.__name__} is the class: write {value.__name__}(...)"
    if isinstance(value, float) and int in _leaves(hint) and value.is_integer():
        return f"; write {int(value)}"
    if float in _leaves(hint) and not isinstance(value, bool) and _overflows(value):
        return f"; write {Decimal(value):.4g}"
    return "".join(f"; {word}" for word in getattr(hint, "__metadata__", ()) if isinstance(word, str))


def _leaves(hint: Any) -> list[Any]:
    """The classes that an annotation consists of."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _leaves(parts[0])
    if origin in (typing.Union, types.UnionType):
        return [leaf for part in parts for leaf in _leaves(part)]
    return [hint if origin is None else origin]


def _is_subclass(value: type, kind: Any) -> bool:
    if not isinstance(kind, type):
        return False
    if getattr(kind, "_is_protocol", False):
        return _follows(value, kind)
    return issubclass(value, kind)
