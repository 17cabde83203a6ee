"""Networks of EDM."""

from sde_gen.interop.edm.reader import load

__all__ = ["load"]


def __dir__() -> list[str]:
    return sorted(__all__)
