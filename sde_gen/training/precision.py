"""Precision of the network."""

import abc
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import ClassVar

import torch

from sde_gen.utils.arguments import Checked


class Precision(Checked, abc.ABC):
    """Choice of a dtype for a device.

    Attributes:
        weights: whether the weights of a network that is not trained have this dtype, too.
    """

    weights: ClassVar[bool] = False

    @abc.abstractmethod
    def dtype(self, device: torch.device) -> torch.dtype:
        """Return the dtype of convolutions and matrix products on a device."""

    def context(self, device: torch.device) -> AbstractContextManager[object]:
        """Return the autocast context of a forward pass."""
        return contexts(device, self.dtype(device))()


@dataclass(frozen=True, kw_only=True)
class Float32(Precision):
    """float32 everywhere; on CUDA see :func:`exact_float32`."""

    def dtype(self, device: torch.device) -> torch.dtype:
        """Return float32 on every device."""
        del device
        return torch.float32


@dataclass(frozen=True, kw_only=True)
class BFloat16(Precision):
    """bfloat16 autocast: products in bfloat16, normalization, loss and weights in float32."""

    def dtype(self, device: torch.device) -> torch.dtype:
        """Return bfloat16; warn and return float32 if the device has no bfloat16 products."""
        if multiplies_bfloat16(device):
            return torch.bfloat16
        warnings.warn(f"{device} does not support bfloat16; using float32", stacklevel=2)
        return torch.float32


@dataclass(frozen=True, kw_only=True)
class BFloat16Weights(Precision):
    """bfloat16 weights of half the memory, on any device; the noise label stays in float32. Not for training."""

    weights: ClassVar[bool] = True

    def dtype(self, device: torch.device) -> torch.dtype:
        """Return bfloat16 on every device."""
        del device
        return torch.bfloat16


@dataclass(frozen=True, kw_only=True)
class Auto(Precision):
    """bfloat16 if the device has instructions for it, otherwise float32."""

    def dtype(self, device: torch.device) -> torch.dtype:
        """Return bfloat16 if the device has instructions for it, else float32."""
        return torch.bfloat16 if multiplies_bfloat16(device) else torch.float32


def exact_float32() -> None:
    """Disable TF32 convolutions on CUDA in this process; called once at its start.

    By default PyTorch lets cuDNN round their factors to 10 bits (TF32). Likelihoods and samples with
    ``precision=float32`` would then differ from those on a CPU in the fourth digit.
    """
    torch.backends.cudnn.allow_tf32 = False


def contexts(device: torch.device, dtype: torch.dtype) -> Callable[[], AbstractContextManager[object]]:
    """Return a factory of autocast contexts for forward passes with a dtype."""
    return nullcontext if dtype == torch.float32 else partial(torch.autocast, device.type, dtype)


def multiplies_bfloat16(device: torch.device) -> bool:
    """Return whether a device has bfloat16 instructions (detected for processors on Linux and x86 only)."""
    if device.type == "cuda":
        with torch.cuda.device(device):  # the query concerns the current device
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    return not _processor().isdisjoint({"amx_bf16", "avx512_bf16"})


@cache  # called at every training step
def _processor() -> frozenset[str]:
    """Return the words of /proc/cpuinfo, including the processor flags."""
    try:
        return frozenset(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return frozenset()
