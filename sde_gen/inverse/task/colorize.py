"""Colorization: find colors for a gray image."""

from dataclasses import dataclass

from sde_gen.inverse.operator import Gray, Operator
from sde_gen.inverse.task.restore import Restore


@dataclass(frozen=True, kw_only=True, eq=False)
class Colorize(Restore):
    """Find colors whose mean over the channels is the gray image; a gray image is a measurement itself."""

    @property
    def operator(self) -> Operator:
        """Return the mean over the channels."""
        return Gray()
