"""Networks of k-diffusion."""

from sde_gen.interop.k_diffusion.reader import load

__all__ = ["load"]
