"""SHA-256 digests of tensors, and memos of values by hashable keys."""

import hashlib
from collections.abc import Callable, Hashable, Iterable
from dataclasses import fields, is_dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Value = TypeVar("Value")


def digest(tensors: Iterable[Tensor], text: str = "", *, digits: int = 16) -> str:
    """Return the first hexadecimal digits of the SHA-256 of a text and of tensors, independent of their device."""
    sha256 = hashlib.sha256(text.encode())
    for tensor in tensors:
        sha256.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        sha256.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha256.hexdigest()[:digits]


class Memo(Generic[Value]):
    """A dictionary of computed values, emptied when it is full.

    Threads may compute a value twice; each gets a whole one. A copy or a pickle of a memo is empty.

    Arguments:
        size: largest number of values.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.values: dict[Hashable, Value] = {}

    def __call__(self, key: Hashable, compute: Callable[[], Value]) -> Value:
        """Return the value of a key, computed on the first request."""
        value = self.values.get(key)
        if value is None:
            value = compute()
            if len(self.values) >= self.size:
                self.values.clear()
            self.values[key] = value
        return value

    def __reduce__(self) -> tuple[type["Memo[Value]"], tuple[int]]:
        """Copy and pickle without the values."""
        return type(self), (self.size,)


def is_constant(*objects: object) -> bool:
    """Return whether objects are frozen dataclasses of numbers, whose functions of time never change.

    A process or a parametrization with tensors or modules may be trained, so nothing of it is stored.
    """
    return all(
        is_dataclass(item)
        and "__dataclass_params__" in vars(type(item))
        and getattr(type(item), "__dataclass_params__").frozen  # noqa: B009 (unknown to the type checker)
        and not any(isinstance(getattr(item, field.name), (Tensor, nn.Module)) for field in fields(item))
        for item in objects
    )
