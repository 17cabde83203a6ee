"""Networks of EDM."""

from sde_gen.interop.edm.reader import load

__all__ = ["load"]
