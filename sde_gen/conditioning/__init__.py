"""What a network is told beside the noised sample."""

from sde_gen.conditioning.base import Conditioning
from sde_gen.conditioning.label import Label
from sde_gen.conditioning.none import Unconditional

__all__ = ["Conditioning", "Label", "Unconditional"]
