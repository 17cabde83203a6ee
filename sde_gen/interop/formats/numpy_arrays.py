"""Arrays of NumPy in pickles, without NumPy's functions that a pickle names."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sde_gen.interop.formats.pickled import Name, PickledCall
from sde_gen.interop.settings import shown

RECONSTRUCT = ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")
FROM_BUFFER = ("numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer")
KINDS = frozenset({"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"})
"""Kinds and bytes of the numbers that are read."""


def array(value: Any, name: str) -> NDArray[Any]:
    """Return the array that a pickle describes.

    Source of the format: NumPy's ``ndarray.__reduce__``: an empty array whose state is (version, shape, dtype, Fortran
    order, data); with protocol 5 a buffer with dtype, shape and order.

    Arguments:
        value: a value of :func:`~sde_gen.interop.formats.pickled.read`.
        name: its name, for messages.

    Raises:
        ValueError: it is no array of numbers, or its data have another size.
    """
    kind = value.kind if isinstance(value, PickledCall) else ""
    if kind in RECONSTRUCT and value.arguments[:1] == (Name("numpy.ndarray"),):
        state = value.state
        if not isinstance(state, tuple) or len(state) != 5:
            raise ValueError(f"the array {shown(name)} has no data")
        _, shape, dtype, fortran, data = state
    elif kind in FROM_BUFFER and len(value.arguments) == 4:
        data, dtype, shape, order = value.arguments
        fortran = order == "F"
    else:
        what = kind or type(value).__name__
        raise ValueError(f"{shown(name)} is {shown(what)}; expected an array of numbers")
    content, of = _bytes(data), _dtype(dtype, name)
    if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"the array {shown(name)} has the shape {shown(shape)}")
    if content is None or len(content) != math.prod(shape) * of.itemsize:
        raise ValueError(f"the array {shown(name)} of shape {shape} has {len(content or b'')} bytes")
    flat = np.frombuffer(content, of).astype(of.newbyteorder("="))
    return flat.reshape(shape, order="F" if fortran else "C")


def _dtype(value: Any, name: str) -> np.dtype[Any]:
    """Return the type of the numbers, whose byte order is in the state."""
    if isinstance(value, PickledCall) and value.kind == "numpy.dtype" and value.arguments[:1]:
        code, state = value.arguments[0], value.state
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else "="
        if code in KINDS and order in ("<", ">", "=", "|"):
            found: np.dtype[Any] = np.dtype(code).newbyteorder(order)
            return found
    raise ValueError(f"the array {shown(name)} holds no plain numbers")


def _bytes(value: Any) -> bytes | None:
    """Return data, which protocol 2 stores as a string."""
    if (
        isinstance(value, PickledCall)
        and value.kind == "_codecs.encode"
        and value.arguments[1:] == ("latin1",)
        and isinstance(value.arguments[0], str)
    ):
        return value.arguments[0].encode("latin1", "replace")
    return bytes(value) if isinstance(value, bytes | bytearray) else None
