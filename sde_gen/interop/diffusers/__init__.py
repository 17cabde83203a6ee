"""Import and export of diffusers networks."""

from sde_gen.interop.diffusers.reader import load
from sde_gen.interop.diffusers.writer import save

__all__ = ["load", "save"]


def __dir__() -> list[str]:
    return sorted(__all__)
