"""Super-resolution: find the details of a small image."""

from dataclasses import dataclass

from sde_gen.inverse.operator import AveragePool, Operator
from sde_gen.inverse.task.restore import Restore


@dataclass(frozen=True, kw_only=True, eq=False)
class SuperResolution(Restore):
    """Find an image from its block means; an image of their size is taken as the measurement.

    Arguments:
        factor: side of a block in pixels.
    """

    factor: int = 4

    @property
    def operator(self) -> Operator:
        """Return the averaging of blocks of pixels."""
        return AveragePool(factor=self.factor)
