"""Networks and classifiers of guided-diffusion and improved-diffusion."""

from sde_gen.interop.guided_diffusion.classifier import load as load_classifier
from sde_gen.interop.guided_diffusion.reader import load

__all__ = ["load", "load_classifier"]


def __dir__() -> list[str]:
    return sorted(__all__)
