"""Removal of JPEG artifacts."""

from dataclasses import dataclass

from sde_gen.inverse.operator import JPEG, Operator
from sde_gen.inverse.task.restore import Restore


@dataclass(frozen=True, kw_only=True, eq=False)
class Decompress(Restore):
    """Find an image from its JPEG-compressed version; needs a method for nonlinear measurements, such as DPS.

    Arguments:
        quality: JPEG quality, 1 to 95.
    """

    quality: int = 25

    @property
    def operator(self) -> Operator:
        """Return the JPEG compression of the given quality."""
        return JPEG(quality=self.quality)
