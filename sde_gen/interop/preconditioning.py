"""Process and preconditioning of EDM, shared by several importers."""

import math

from sde_gen.denoiser.parametrization.edm import EDM
from sde_gen.denoiser.parametrization.label import LIMIT, LogRatio, LogSigma
from sde_gen.interop.converted_model import ObjectSpec
from sde_gen.sde import edm


def karras(*, low: float, high: float, deviation: float) -> tuple[ObjectSpec, ObjectSpec]:
    """Return process and preconditioning of EDM with the noise label log(sigma) / 4.

    Source: Karras et al., 2022, arXiv:2206.00364, table 1.

    Arguments:
        low: sigma_min.
        high: sigma_max; beyond the range of the default label an unbounded label is used.
        deviation: sigma_data.
    """
    label = (
        ObjectSpec(LogRatio, unit=1.0, scale=0.25)
        if math.log(high) > LIMIT
        else ObjectSpec(LogSigma, scale=0.25)
    )
    return ObjectSpec(edm.EDMProcess, sigma_min=low, sigma_max=high), ObjectSpec(
        EDM, sigma_data=deviation, label=label
    )
