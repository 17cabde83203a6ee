"""Pixels as features."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sde_gen.evaluation.features.base import Extracted, Features


@dataclass(frozen=True, kw_only=True)
class Pixels(Features):
    """Pixels in [0, 1], without a network: d = C H W."""

    name: ClassVar[str] = "pixels"
    resize: ClassVar[str] = "none"
    color: ClassVar[bool] = False

    @property
    def sha256(self) -> str:
        """Return an empty string, as there are no weights."""
        return ""

    def extract(self, images: Tensor) -> Extracted:
        """Scale the levels to [0, 1] and flatten the images."""
        return Extracted(images.flatten(1).float() / 255)
