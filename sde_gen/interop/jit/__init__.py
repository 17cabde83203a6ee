"""Import of networks of the authors of JiT."""

from sde_gen.interop.jit.reader import load

__all__ = ["load"]


def __dir__() -> list[str]:
    return sorted(__all__)
