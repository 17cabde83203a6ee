"""Time grids."""

from sde_gen.grid.angle import Angle
from sde_gen.grid.base import Grid
from sde_gen.grid.karras import Karras
from sde_gen.grid.log_snr import LogSNR
from sde_gen.grid.quadratic import Quadratic
from sde_gen.grid.uniform import Uniform

__all__ = ["Angle", "Grid", "Karras", "LogSNR", "Quadratic", "Uniform"]
