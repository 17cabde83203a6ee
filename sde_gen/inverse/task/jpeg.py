"""Removal of JPEG's artefacts."""

from dataclasses import dataclass

from sde_gen.inverse.operator import JPEG, Operator
from sde_gen.inverse.task.restore import Restore


@dataclass(frozen=True, kw_only=True, eq=False)
class Decompress(Restore):
    """Find an image that compresses to what is given; no method for linear measurements helps, DPS does.

    Arguments:
        quality: of the compression, 1 to 95.
    """

    quality: int = 25

    @property
    def operator(self) -> Operator:
        """Return the JPEG compression of the given quality."""
        return JPEG(quality=self.quality)
