"""Inverse problems and edits of given images."""

from sde_gen.inverse.task.base import SampleRequest, Task, TaskSampler
from sde_gen.inverse.task.colorize import Colorize
from sde_gen.inverse.task.deblur import Deblur
from sde_gen.inverse.task.inpaint import Inpaint
from sde_gen.inverse.task.interpolate import Interpolate
from sde_gen.inverse.task.jpeg import Decompress
from sde_gen.inverse.task.restore import Restore, psnr
from sde_gen.inverse.task.superres import SuperResolution
from sde_gen.inverse.task.vary import Vary

__all__ = [
    "Colorize",
    "Deblur",
    "Decompress",
    "Inpaint",
    "Interpolate",
    "Restore",
    "SampleRequest",
    "SuperResolution",
    "Task",
    "TaskSampler",
    "Vary",
    "psnr",
]


def __dir__() -> list[str]:
    return sorted(__all__)
