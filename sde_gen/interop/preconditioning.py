"""The process and the preconditioning of EDM, which several projects have."""

import math

from sde_gen.denoiser.parametrization.edm import EDM
from sde_gen.denoiser.parametrization.label import LIMIT, LogRatio, LogSigma
from sde_gen.interop.object_spec import ObjectSpec
from sde_gen.sde import edm


def karras(*, low: float, high: float, deviation: float) -> tuple[ObjectSpec, ObjectSpec]:
    """The process between two noise levels, and a network that is told log(sigma) / 4 at all of them.

    Source: Karras et al., 2022, arXiv:2206.00364, table 1.

    Arguments:
        low: sigma_min.
        high: sigma_max; where our own label would have ended before it, one without an end is taken.
        deviation: sigma_data.
    """
    told = (
        ObjectSpec(LogRatio, unit=1.0, scale=0.25)
        if math.log(high) > LIMIT
        else ObjectSpec(LogSigma, scale=0.25)
    )
    return ObjectSpec(edm.EDMProcess, sigma_min=low, sigma_max=high), ObjectSpec(
        EDM, sigma_data=deviation, label=told
    )
