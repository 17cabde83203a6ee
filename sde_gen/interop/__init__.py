"""Import and export of networks of other projects, without executing anything in a file."""

from sde_gen.interop import (
    compvis,
    diffusers,
    dit,
    edm,
    guided_diffusion,
    jit,
    k_diffusion,
    score_sde,
    transformers,
)

__all__ = [
    "compvis",
    "diffusers",
    "dit",
    "edm",
    "guided_diffusion",
    "jit",
    "k_diffusion",
    "score_sde",
    "transformers",
]


def __dir__() -> list[str]:
    return sorted(__all__)
