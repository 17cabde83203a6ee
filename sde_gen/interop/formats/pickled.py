"""Pickles as data: what a pickle would call is written down, and nothing is called."""

import mmap
import pickletools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

LARGEST = 16 * 2**30
"""Bytes of a pickle, at most."""


@dataclass(frozen=True)
class Name:
    """A class or function that a pickle names.

    Arguments:
        path: module and name, joined by a dot.
    """

    path: str


@dataclass(eq=False)
class PickledCall:
    """An object that a pickle wants made.

    Arguments:
        kind: module and name of what would be called.
        arguments: with what.
        state: what the object would be given then.
        items: pairs of keys and values that would be set then.
    """

    kind: str
    arguments: tuple[Any, ...]
    state: Any = None
    items: list[tuple[Any, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Elsewhere:
    """An object that lies outside the pickle.

    Arguments:
        place: what the pickle says of its place.
    """

    place: Any


def read(path: Path) -> Any:
    """What a pickle file holds: dictionaries, lists, numbers, texts, bytes, and descriptions of all other objects.

    Raises:
        ValueError: the file is missing, too large, or no whole pickle.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes; at most {LARGEST:,} are read")
    try:
        if path.stat().st_size == 0:
            raise ValueError("it ends before its beginning")
        # of the mapped file only what is there can be read, whatever sizes it claims, and only that is in memory
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            return parse(cast(BinaryIO, mapped))
    except ValueError as error:
        raise ValueError(f"{path} is no whole pickle ({error})") from error


def parse(file: BinaryIO) -> Any:
    """The next pickle of a file, which is left behind its end.

    The machine is that of PEP 307, 3154 and 574 without its last step: calls become :class:`PickledCall`.

    Raises:
        ValueError: it is no whole pickle, or uses an operation that Python's protocols 2 to 5 do not write.
    """
    machine = _Machine()
    try:
        for operation, argument, _ in pickletools.genops(file):
            if operation.name == "STOP":
                return machine.stack.pop()
            machine.take(operation.name, argument)
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        raise ValueError(f"{error or type(error).__name__}".splitlines()[0][:200]) from error
    raise ValueError("it ends before its end")


class _Machine:
    """Stack, marks and memo of a pickle."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def take(self, name: str, argument: Any) -> None:
        """Follow one operation."""
        stack = self.stack
        if name in _IDLE:
            return
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name == "MARK":
            self.marks.append(stack)
            self.stack = []
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name in _TUPLES:
            count = _TUPLES[name]
            values = tuple(stack[-count:])
            if len(values) < count:
                raise ValueError("a tuple of more than there is")
            stack[-count:] = [values]
        elif name == "TUPLE":
            marked = tuple(self._marked())
            self.stack.append(marked)
        elif name == "GLOBAL":
            stack.append(Name(argument.replace(" ", ".", 1)))
        elif name == "STACK_GLOBAL":
            attribute, module = _text(stack.pop()), _text(stack.pop())
            stack.append(Name(f"{module}.{attribute}"))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, kind = stack.pop(), stack.pop()
            stack.append(PickledCall(_named(kind), _tuple(arguments)))
        elif name == "BUILD":
            state = stack.pop()
            if not isinstance(stack[-1], PickledCall):
                raise ValueError("a state for what is no object")
            stack[-1].state = state
        elif name == "BINPERSID":
            stack.append(Elsewhere(stack.pop()))
        elif name in ("APPEND", "APPENDS"):
            members = [stack.pop()] if name == "APPEND" else self._marked()
            _list(self.stack[-1]).extend(members)
        elif name in ("SETITEM", "SETITEMS"):
            flat = [stack.pop(-2), stack.pop()] if name == "SETITEM" else self._marked()
            self._set(list(zip(flat[::2], flat[1::2], strict=True)))
        elif name == "ADDITEMS":
            self._marked()  # of sets nothing is needed
        else:
            raise ValueError(f"operation {name} is not read")

    def _marked(self) -> list[Any]:
        """What lies above the last mark, which is forgotten."""
        above, self.stack = self.stack, self.marks.pop()
        return above

    def _set(self, pairs: list[tuple[Any, Any]]) -> None:
        into = self.stack[-1]
        if isinstance(into, PickledCall):
            into.items.extend(pairs)
        elif isinstance(into, dict):
            # Python hashes tuples within tuples by recursion, and a million of them end the process
            if not all(key is None or isinstance(key, str | int | float | bytes) for key, _ in pairs):
                raise ValueError("a key that is neither a text nor a number")
            into.update(pairs)
        else:
            raise ValueError("items for what is no dictionary")


_IDLE = frozenset({"PROTO", "FRAME"})
_CONSTANTS: dict[str, Any] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": set,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_VALUES = frozenset(
    {
        *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"),
        *("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8"),
    }
)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a name that is no text")
    return value


def _named(value: Any) -> str:
    if not isinstance(value, Name):
        raise ValueError("a call of what is no name")
    return value.path


def _tuple(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, tuple):
        raise ValueError("arguments that are no tuple")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("members for what is no list")
    return value
