"""Restricted unpickler: calls are recorded, not executed."""

import mmap
import pickletools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

LARGEST = 16 * 2**30
"""Maximum size of a pickle in bytes."""


@dataclass(frozen=True)
class Name:
    """Class or function that a pickle refers to.

    Arguments:
        path: module and name, joined by a dot.
    """

    path: str


@dataclass(eq=False)
class PickledCall:
    """Recorded construction of an object.

    Arguments:
        kind: module and name of the callable.
        arguments: positional arguments of the call.
        state: state that would be set on the object.
        items: pairs of keys and values that would be assigned to the object.
    """

    kind: str
    arguments: tuple[Any, ...]
    state: Any = None
    items: list[tuple[Any, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Elsewhere:
    """Reference to an object outside the pickle.

    Arguments:
        place: persistent id.
    """

    place: Any


def read(path: Path) -> Any:
    """Read a pickle file: dictionaries, lists, numbers, strings, bytes, and descriptions of all other objects.

    Raises:
        ValueError: the file is missing, too large, or not a complete pickle.
    """
    if not path.is_file():
        raise ValueError(f"file not found: {path}")
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes; at most {LARGEST:,} are read")
    try:
        if path.stat().st_size == 0:
            raise ValueError("it is empty")
        # a mapped file cannot be read beyond its end, whatever sizes it declares
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            return parse(cast(BinaryIO, mapped))
    except ValueError as error:
        raise ValueError(f"{path} is not a complete pickle ({error})") from error


def parse(file: BinaryIO) -> Any:
    """Parse the next pickle of a file and leave the file position after it.

    Implements the stack machine of PEP 307, 3154 and 574, with :class:`PickledCall` in place of calls.

    Raises:
        ValueError: the pickle is incomplete, or uses an opcode that Python's protocols 2 to 5 do not write.
    """
    machine = _Machine()
    try:
        for operation, argument, _ in pickletools.genops(file):
            if operation.name == "STOP":
                return machine.stack.pop()
            machine.take(operation.name, argument)
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        raise ValueError(f"{error or type(error).__name__}".splitlines()[0][:200]) from error
    raise ValueError("it is truncated")


class _Machine:
    """Stack, marks and memo of the pickle machine."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def take(self, name: str, argument: Any) -> None:
        """Execute an opcode."""
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
                raise ValueError("a tuple larger than the stack")
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
                raise ValueError("a state for a value that is not an object")
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
        """Remove the last mark and return the stack above it."""
        above, self.stack = self.stack, self.marks.pop()
        return above

    def _set(self, pairs: list[tuple[Any, Any]]) -> None:
        into = self.stack[-1]
        if isinstance(into, PickledCall):
            into.items.extend(pairs)
        elif isinstance(into, dict):
            # Python hashes tuples within tuples by recursion, and a million of them end the process
            if not all(key is None or isinstance(key, str | int | float | bytes) for key, _ in pairs):
                raise ValueError("a key that is neither a string nor a number")
            into.update(pairs)
        else:
            raise ValueError("items for a value that is not a dictionary")


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
        *("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
        *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    }
)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a name that is not a string")
    return value


def _named(value: Any) -> str:
    if not isinstance(value, Name):
        raise ValueError("a call whose target is not a global")
    return value.path


def _tuple(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, tuple):
        raise ValueError("arguments that are not a tuple")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("members for a value that is not a list")
    return value
