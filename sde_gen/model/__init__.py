"""Networks: plain modules ``net(x, c_noise, label=None)`` that know nothing of processes."""

from sde_gen.model.adm.adm import ADM
from sde_gen.model.adm.level_resample import BlockChange, Change, ConvolutionChange, PlainChange
from sde_gen.model.classifier.adm_encoder import ADMEncoder
from sde_gen.model.classifier.encoder import Encoder
from sde_gen.model.classifier.pooling import (
    AttentionPool,
    AveragePool,
    LevelsPool,
    NormalisedLevelsPool,
    Pool,
)
from sde_gen.model.mlp import MLP
from sde_gen.model.norms import (
    Common,
    Fixed,
    FixedBesideMiddle,
    GroupNorm,
    JoinedQuarters,
    Norms,
    Quarters,
    norm,
)
from sde_gen.model.transformer.attention import Everywhere, Neighbourhood, Reach, ShiftedWindow, Tiling
from sde_gen.model.transformer.hdit import HDiT, Level
from sde_gen.model.transformer.rotary import Grid, LearnedRotation, Rotary, Rotation, SpreadRotation
from sde_gen.model.unet.base import UNet
from sde_gen.model.unet.ddpm_unet import HoUNet
from sde_gen.model.unet.ddpmpp import DDPMpp
from sde_gen.model.unet.kdiff_unet import KUNet
from sde_gen.model.unet.ncsnpp import NCSNpp
from sde_gen.model.unet.progressive import (
    Head,
    InputLevel,
    JoinedInput,
    NoInput,
    NoOutput,
    ProgressiveInput,
    ProgressiveOutput,
    ResidualInput,
    ResidualOutput,
    SkipInput,
    SkipOutput,
)

__all__ = [
    "ADM",
    "MLP",
    "ADMEncoder",
    "AttentionPool",
    "AveragePool",
    "BlockChange",
    "Change",
    "Common",
    "ConvolutionChange",
    "DDPMpp",
    "Encoder",
    "Everywhere",
    "Fixed",
    "FixedBesideMiddle",
    "Grid",
    "GroupNorm",
    "HDiT",
    "Head",
    "HoUNet",
    "InputLevel",
    "JoinedInput",
    "JoinedQuarters",
    "KUNet",
    "LearnedRotation",
    "Level",
    "LevelsPool",
    "NCSNpp",
    "Neighbourhood",
    "NoInput",
    "NoOutput",
    "NormalisedLevelsPool",
    "Norms",
    "PlainChange",
    "Pool",
    "ProgressiveInput",
    "ProgressiveOutput",
    "Quarters",
    "Reach",
    "ResidualInput",
    "ResidualOutput",
    "Rotary",
    "Rotation",
    "ShiftedWindow",
    "SkipInput",
    "SkipOutput",
    "SpreadRotation",
    "Tiling",
    "UNet",
    "norm",
]
