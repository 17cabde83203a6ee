"""Colorization: find colors for a grey image."""

from dataclasses import dataclass

from sde_gen.inverse.operator import Grey, Operator
from sde_gen.inverse.task.restore import Restore


@dataclass(frozen=True, kw_only=True, eq=False)
class Colorize(Restore):
    """Find colors whose mean over the channels is the grey image; a grey image is a measurement itself."""

    @property
    def operator(self) -> Operator:
        """The mean over the channels."""
        return Grey()
