"""The only broadcasting of the package: coefficients per sample against events of any rank."""

import math
import reprlib
from typing import Any

import torch
from torch import Tensor


def broadcast(a: Tensor, x: Tensor) -> Tensor:
    """Reshape a coefficient so that it multiplies a batch.

    Arguments:
        a: a coefficient with shape (), (B,) or (B, *event).
        x: the batch with shape (B, *event).

    Returns:
        ``a`` with shape () or (B, 1, ..., 1) or (B, *event); never a copy.
    """
    if a.ndim == 0 or a.ndim == x.ndim:
        return a
    return a.reshape(a.shape + (1,) * (x.ndim - a.ndim))


def broadcast_like(a: Tensor, x: Tensor) -> Tensor:
    """Broadcast a float64 coefficient against a batch and cast it to the batch's dtype and device.

    A zero-dimensional coefficient stays where it is, in float64: PyTorch multiplies a batch by it
    without promotion, without a copy and, on a GPU, without waiting.
    """
    if a.ndim == 0:
        return a
    return to_device(broadcast(a, x), x.device, x.dtype)


def to_device(x: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Copy to a device; from the host without synchronizing with a GPU.

    A copy waits where the host's memory can be moved, so it goes by way of memory that cannot.

    Arguments:
        x: a tensor.
        device: where to.
        dtype: of the result, None for that of x.
    """
    x = x if dtype is None else x.to(dtype)  # first: a copy that converts waits, too
    if x.device.type != "cpu":
        return x.to(device)
    if device.type == "cuda" and not x.requires_grad:
        x = x.pin_memory()
    return x.to(device, non_blocking=True)


def times(t: Any) -> Tensor:
    """Take times as a tensor, numbers in float64.

    Arguments:
        t: a tensor, which stays as it is; or a number, or a list or array of numbers.

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(t, Tensor):
        return t
    try:
        return torch.as_tensor(t, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"t={reprlib.repr(t)} must be a time: a number, or a tensor of numbers") from error


def select_rows(a: Tensor, index: Tensor, count: int) -> Tensor:
    """Pick the rows of some samples, unless there is one row for all.

    Arguments:
        a: one row per sample (count, ...), or a tensor that belongs to all samples.
        index: which samples, with shape (b,).
        count: number of samples.
    """
    return a[index] if a.shape[:1] == (count,) else a


def sum_event(x: Tensor) -> Tensor:
    """Sum over every dimension but the first: (B, *event) -> (B,)."""
    return x.flatten(1).sum(1) if x.ndim > 1 else x


def mean_event(x: Tensor) -> Tensor:
    """Mean over every dimension but the first: (B, *event) -> (B,)."""
    return x.flatten(1).mean(1) if x.ndim > 1 else x


def event_numel(x: Tensor) -> int:
    """Number of dimensions D of one sample of the batch (B, *event)."""
    return math.prod(x.shape[1:])
