"""What can be done with a model and given images."""

from sde_gen.task.base import Task
from sde_gen.task.colorize import Colorize
from sde_gen.task.deblur import Deblur
from sde_gen.task.inpaint import Inpaint
from sde_gen.task.interpolate import Interpolate
from sde_gen.task.jpeg import Decompress
from sde_gen.task.psnr import psnr
from sde_gen.task.restore import Restore
from sde_gen.task.superres import SuperResolution
from sde_gen.task.vary import Vary

__all__ = [
    "Colorize",
    "Deblur",
    "Decompress",
    "Inpaint",
    "Interpolate",
    "Restore",
    "SuperResolution",
    "Task",
    "Vary",
    "psnr",
]
