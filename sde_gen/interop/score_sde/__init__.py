"""Networks of score_sde_pytorch."""

from sde_gen.interop.score_sde.reader import load

__all__ = ["load"]


def __dir__() -> list[str]:
    return sorted(__all__)
