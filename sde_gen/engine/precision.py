"""The number format of the network in training."""

import abc
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch


class Precision(abc.ABC):
    """A choice of format for a device."""

    @abc.abstractmethod
    def dtype(self, device: torch.device) -> torch.dtype:
        """The format of convolutions and matrix products on this device."""

    def context(self, device: torch.device) -> AbstractContextManager[object]:
        """What the forward pass runs in."""
        dtype = self.dtype(device)
        return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


@dataclass(frozen=True, kw_only=True)
class Float32(Precision):
    """float32 everywhere."""

    def dtype(self, device: torch.device) -> torch.dtype:
        """float32."""
        del device
        return torch.float32


@dataclass(frozen=True, kw_only=True)
class BFloat16(Precision):
    """bfloat16 autocast: products in bfloat16, normalisation, loss and weights in float32."""

    def dtype(self, device: torch.device) -> torch.dtype:
        """bfloat16."""
        del device
        return torch.bfloat16


@dataclass(frozen=True, kw_only=True)
class Auto(Precision):
    """bfloat16 where the device multiplies matrices in it, float32 elsewhere."""

    def dtype(self, device: torch.device) -> torch.dtype:
        """Ask the device."""
        if device.type == "cuda":
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            fast = device.type == "cpu" and _cpu_multiplies_bfloat16()
        return torch.bfloat16 if fast else torch.float32


def _cpu_multiplies_bfloat16() -> bool:
    """Whether the processor has instructions for products in bfloat16 (known on Linux and x86 only)."""
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return False
    return not words.isdisjoint({"amx_bf16", "avx512_bf16"})
