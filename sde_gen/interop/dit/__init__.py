"""Import of networks of the authors of DiT."""

from sde_gen.interop.dit.reader import load

__all__ = ["load"]


def __dir__() -> list[str]:
    return sorted(__all__)
