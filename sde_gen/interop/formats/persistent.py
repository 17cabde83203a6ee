"""Network pickles of EDM and StyleGAN: constructor arguments and tensors, without building the objects."""

import io
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sde_gen.interop.formats import torch_storage
from sde_gen.interop.formats.pickled import PickledCall, parse
from sde_gen.interop.settings import first_line, shown

OBJECT = "torch_utils.persistence._reconstruct_persistent_obj"
SCALARS = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
DICTIONARIES = ("collections.OrderedDict", "dnnlib.util.EasyDict")
MODULES = "torch.nn.modules.container."
DEEPEST = 32
"""Maximum nesting depth of modules."""

MOST_PARTS = 2**15
"""Maximum number of visited modules and argument values; shared ones count repeatedly."""


class Persistent(NamedTuple):
    """Description of a pickled network.

    Arguments:
        kind: class name.
        arguments: keyword arguments of the constructor.
        tensors: parameters and buffers by name.
    """

    kind: str
    arguments: dict[str, Any]
    tensors: dict[str, Tensor]


def network(found: Any, key: str = "ema") -> Persistent:
    """Return the network of a snapshot.

    Source of the format: Karras et al., 2019, StyleGAN2-ADA and EDM, torch_utils/persistence.py: an object is stored as
    its class name, the source code of its module (ignored here) and the dictionary of its attributes.

    Arguments:
        found: result of :func:`~sde_gen.interop.formats.pickled.read`.
        key: key of the network in the snapshot.
    """
    if not isinstance(found, dict) or key not in found:
        known = ", ".join(map(str, list(found)[:8])) if isinstance(found, dict) else type(found).__name__
        raise ValueError(f"the pickle has no network {key!r}; it has {known}")
    kind, state = _object(found[key], key)
    if state.get("_init_args", ()) not in ((), []):
        raise ValueError(f"{kind} was built with positional arguments, which are not supported")
    visitor = _Visitor()
    arguments = {
        str(name): visitor.plain(value, str(name), 0)
        for name, value in pairs(state.get("_init_kwargs", {}), kind)
    }
    return Persistent(kind, arguments, dict(visitor.tensors(state, "", 0)))


def _object(value: Any, where: str) -> tuple[str, dict[str, Any]]:
    """Return class name and attributes of a persistent object."""
    if not isinstance(value, PickledCall) or value.kind != OBJECT or len(value.arguments) != 1:
        raise ValueError(f"{where} is not a persistent object, but {_what(value)}")
    meta = dict(pairs(value.arguments[0], where))
    kind, state = meta.get("class_name"), meta.get("state")
    if meta.get("type") != "class" or not isinstance(kind, str):
        raise ValueError(f"{where} is not an instance of a class")
    return kind, {str(name): one for name, one in pairs(state, where)}


class _Visitor:
    """Visitor of the parts of a network, with limits on depth and number."""

    def __init__(self) -> None:
        self.left = MOST_PARTS
        self.storages: dict[int, Tensor] = {}

    def _step(self, name: str, depth: int) -> None:
        self.left -= 1
        if depth > DEEPEST:
            raise ValueError(f"{shown(name)} has modules nested more than {DEEPEST} levels deep")
        if self.left < 0:
            raise ValueError(f"{shown(name)}: the network has more than {MOST_PARTS} parts")

    def tensors(self, state: dict[str, Any], prefix: str, depth: int) -> Iterator[tuple[str, Tensor]]:
        """Return parameters and buffers of a module and its submodules."""
        self._step(prefix, depth)
        for kind in ("_parameters", "_buffers"):
            for name, value in pairs(state.get(kind, {}), f"{prefix}{kind}"):
                if value is not None:
                    self._step(prefix, depth)
                    yield f"{prefix}{name}", self._tensor(value, f"{prefix}{name}")
        for name, value in pairs(state.get("_modules", {}), f"{prefix}_modules"):
            if value is None:
                continue
            inner = f"{prefix}{name}"
            if isinstance(value, PickledCall) and value.kind.startswith(MODULES):
                attributes = {str(key): one for key, one in pairs(value.state, inner)}
            else:
                _, attributes = _object(value, inner)
            yield from self.tensors(attributes, f"{inner}.", depth + 1)

    def _tensor(self, value: Any, name: str) -> Tensor:
        found = torch_storage.tensor(value, shown(name), self._storage)
        there = found.untyped_storage().nbytes() // found.element_size()
        if found.numel() > there:
            raise ValueError(
                f"{shown(name)} of shape {tuple(found.shape)} does not lie within its {there} stored numbers"
            )
        return found

    def _storage(self, value: Any, name: str) -> Tensor:
        """Return the data of a storage, which is read once."""
        if id(value) not in self.storages:
            self.storages[id(value)] = _storage(value, name)
        return self.storages[id(value)]

    def plain(self, value: Any, name: str, depth: int) -> Any:
        """Convert a number, a string, or a list or dictionary of them."""
        self._step(name, depth)
        if isinstance(value, PickledCall) and value.kind in SCALARS and len(value.arguments) == 2:
            dtype, data = value.arguments[0], _bytes(value.arguments[1])
            code = (
                dtype.arguments[0]
                if isinstance(dtype, PickledCall) and dtype.kind == "numpy.dtype" and dtype.arguments
                else ""
            )
            if (
                code in ("f8", "f4", "i8", "i4", "b1")
                and data is not None
                and len(data) == np.dtype(code).itemsize
            ):
                return np.frombuffer(data, code)[0].item()
        if isinstance(value, list | tuple):
            return [self.plain(one, name, depth + 1) for one in value]
        if isinstance(value, dict) or (isinstance(value, PickledCall) and value.kind in DICTIONARIES):
            return {str(key): self.plain(one, name, depth + 1) for key, one in pairs(value, name)}
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise ValueError(
            f"the argument {shown(name)} is {_what(value)}; expected numbers, strings, lists or dictionaries"
        )


def _storage(value: Any, name: str) -> Tensor:
    """Read the data of a storage, which a pickle contains as a file of torch.save before version 1.6.

    This file consists of five pickles (magic number, version, system information, description of the storage, keys),
    the number of elements in eight bytes, and the elements.
    """
    called = (
        isinstance(value, PickledCall)
        and value.kind == "torch.storage._load_from_bytes"
        and len(value.arguments) == 1
    )
    data = _bytes(value.arguments[0]) if called else None
    if data is None:
        raise ValueError(
            f"the numbers of {name} are not stored in the format of torch.storage, but as {_what(value)}"
        )
    file = io.BytesIO(data)
    try:
        described = [parse(file) for _ in range(5)][3]
    except ValueError as error:
        raise ValueError(f"the numbers of {name} are damaged ({first_line(error)})") from error
    ref = torch_storage.storage_ref(described, name)
    header, rest = file.read(8), bytearray(file.read())
    if int.from_bytes(header, "little") != ref.numel or len(rest) != ref.size:
        raise ValueError(f"of the {ref.numel} numbers of {name} there are {len(rest)} bytes")
    return torch.frombuffer(rest, dtype=ref.dtype) if rest else torch.empty(0, dtype=ref.dtype)


def _bytes(value: Any) -> bytes | None:
    """Return bytes, which protocol 2 stores as an encoded string."""
    if (
        isinstance(value, PickledCall)
        and value.kind == "_codecs.encode"
        and value.arguments[1:] == ("latin1",)
    ):
        text = value.arguments[0]
        return text.encode("latin1", "replace") if isinstance(text, str) else None
    return value if isinstance(value, bytes) else None


def pairs(value: Any, where: str) -> list[tuple[Any, Any]]:
    """Return the pairs of keys and values of a dictionary."""
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, PickledCall) and value.kind in DICTIONARIES:
        return value.items
    raise ValueError(f"{where}: expected a dictionary, got {_what(value)}")


def _what(value: Any) -> str:
    return value.kind if isinstance(value, PickledCall) else type(value).__name__
