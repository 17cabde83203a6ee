"""Import of Stable Diffusion in the single-file layout of CompVis and Stability AI."""

from sde_gen.interop.compvis.reader import load

__all__ = ["load"]


def __dir__() -> list[str]:
    return sorted(__all__)
