"""Training without conditioning."""

from dataclasses import dataclass

from torch import Tensor

from sde_gen.data.conditioning.base import Conditioning
from sde_gen.noise import Noise


@dataclass(frozen=True, kw_only=True)
class Unconditional(Conditioning):
    """Unconditional training without labels."""

    def __call__(self, labels: Tensor | None, noise: Noise) -> dict[str, Tensor]:
        """Return no conditioning."""
        del labels, noise
        return {}
