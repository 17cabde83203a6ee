"""The number format of the network in training."""

import abc
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

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
            fast = device.type == "cpu" and _cpu_has_amx()
        return torch.bfloat16 if fast else torch.float32


def _cpu_has_amx() -> bool:
    """Whether the processor has tile multiplication; without it bfloat16 gains little (Linux only)."""
    try:
        with open("/proc/cpuinfo") as file:
            return any("amx_bf16" in line for line in file)
    except OSError:
        return False
