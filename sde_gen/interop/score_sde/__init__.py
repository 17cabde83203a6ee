"""Networks of score_sde_pytorch."""

from sde_gen.interop.score_sde.reader import load

__all__ = ["load"]
