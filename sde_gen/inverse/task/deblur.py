"""Deblurring: find the sharp image."""

from dataclasses import dataclass

from sde_gen.inverse.operator import Blur, Operator
from sde_gen.inverse.task.restore import Restore


@dataclass(frozen=True, kw_only=True, eq=False)
class Deblur(Restore):
    """Find an image from its blurred version.

    Arguments:
        std: standard deviation of the blur in pixels.
    """

    std: float = 1.0

    @property
    def operator(self) -> Operator:
        """Return the Gaussian blur with standard deviation ``std``."""
        return Blur(std=self.std)
