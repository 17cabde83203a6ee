"""Time grids of the sampler."""

from sde_gen.grid.angle import Angle
from sde_gen.grid.base import Curve, Grid
from sde_gen.grid.cosine import CosineGrid
from sde_gen.grid.ddpm import DDPMInner, DDPMLeading, DDPMLinspace, DDPMTrailing
from sde_gen.grid.exponential import Exponential
from sde_gen.grid.iddpm import IDDPM
from sde_gen.grid.interpolated import DDPMInterpolated
from sde_gen.grid.karras import Karras
from sde_gen.grid.listed import Listed, ListedLogSNRs, ListedRatios
from sde_gen.grid.log_snr import LogSNR
from sde_gen.grid.process_time import ProcessTime
from sde_gen.grid.quadratic import Quadratic
from sde_gen.grid.shifted import Shifted
from sde_gen.grid.uniform import Uniform

__all__ = [
    "IDDPM",
    "Angle",
    "CosineGrid",
    "Curve",
    "DDPMInner",
    "DDPMInterpolated",
    "DDPMLeading",
    "DDPMLinspace",
    "DDPMTrailing",
    "Exponential",
    "Grid",
    "Karras",
    "Listed",
    "ListedLogSNRs",
    "ListedRatios",
    "LogSNR",
    "ProcessTime",
    "Quadratic",
    "Shifted",
    "Uniform",
]


def __dir__() -> list[str]:
    return sorted(__all__)
