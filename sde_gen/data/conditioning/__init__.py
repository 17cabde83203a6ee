"""What a network is told beside the noised sample."""

from sde_gen.data.conditioning.base import Conditioning
from sde_gen.data.conditioning.label import Label
from sde_gen.data.conditioning.none import Unconditional

__all__ = ["Conditioning", "Label", "Unconditional"]


def __dir__() -> list[str]:
    return sorted(__all__)
