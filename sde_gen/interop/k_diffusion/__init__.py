"""Networks of k-diffusion."""

from sde_gen.interop.k_diffusion.reader import load

__all__ = ["load"]


def __dir__() -> list[str]:
    return sorted(__all__)
