"""Tensors in PyTorch pickles: a reference to a storage, an offset, a shape and strides."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sde_gen.interop.formats.pickled import Elsewhere, Name, PickledCall
from sde_gen.interop.settings import shown

DTYPES = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
    "torch.ComplexFloatStorage": torch.complex64,
    "torch.ComplexDoubleStorage": torch.complex128,
}

PARAMETERS = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
TENSOR = "torch._utils._rebuild_tensor_v2"


class StorageRef(NamedTuple):
    """Reference to a storage.

    Attributes:
        dtype: data type.
        key: name of the storage.
        numel: number of elements.
    """

    dtype: torch.dtype
    key: str
    numel: int

    @property
    def size(self) -> int:
        """Return the size in bytes."""
        return self.numel * torch.empty((), dtype=self.dtype).element_size()


def storage_ref(value: Any, name: str) -> StorageRef:
    """Parse the reference to the storage of a tensor.

    Raises:
        ValueError: the reference has another form.
    """
    settings = value.place if isinstance(value, Elsewhere) else None
    if isinstance(settings, tuple) and len(settings) >= 5:
        kind, key, count = settings[1], settings[2], settings[4]
        known = isinstance(kind, Name) and kind.path in DTYPES and isinstance(key, str)
        if known and isinstance(count, int) and 0 <= count < 2**40:
            return StorageRef(DTYPES[kind.path], key, count)
    raise ValueError(f"the storage of {name} has an unknown type")


def tensor(value: Any, name: str, storage: Callable[[Any, str], Tensor]) -> Tensor:
    """Return a pickled tensor as a view of its storage.

    Arguments:
        value: recorded call that builds the tensor.
        name: name of the tensor, for messages.
        storage: function from the pickle's storage reference and the name to the data.

    Raises:
        ValueError: the value is not a tensor, or exceeds its storage.
    """
    if isinstance(value, PickledCall) and value.kind in PARAMETERS and value.arguments:
        value = value.arguments[0]
    if not isinstance(value, PickledCall) or value.kind != TENSOR or len(value.arguments) < 4:
        raise ValueError(
            f"{name} is not a tensor, but {value.kind if isinstance(value, PickledCall) else type(value).__name__}"
        )
    ref, offset, shape, strides = value.arguments[:4]
    numbers = [offset, *(shape if isinstance(shape, tuple) else [None])]
    numbers += list(strides) if isinstance(strides, tuple) and len(strides) == len(numbers) - 1 else [None]
    if len(numbers) > 64 or not all(isinstance(number, int) and 0 <= number < 2**40 for number in numbers):
        raise ValueError(
            f"{name} has the offset {shown(offset)}, the shape {shown(shape)} and the strides {shown(strides)}"
        )
    numbers_there = storage(ref, name)
    last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
    if 0 not in shape and last >= len(numbers_there):
        raise ValueError(
            f"{name} of shape {shape} does not lie within its {len(numbers_there)} stored numbers"
        )
    return torch.as_strided(numbers_there, shape, strides, offset if 0 not in shape else 0)
