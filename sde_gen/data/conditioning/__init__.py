"""Conditioning of the network besides noisy sample and time."""

from sde_gen.data.conditioning.base import Conditioning
from sde_gen.data.conditioning.label import Label
from sde_gen.data.conditioning.none import Unconditional

__all__ = ["Conditioning", "Label", "Unconditional"]


def __dir__() -> list[str]:
    return sorted(__all__)
