"""Networks: plain modules ``net(x, c_noise, label=None)`` that know nothing of processes."""

from sde_gen.model.adm import ADM
from sde_gen.model.adm_encoder import ADMEncoder
from sde_gen.model.ddpmpp import DDPMpp
from sde_gen.model.encoder import Encoder
from sde_gen.model.hdit import HDiT
from sde_gen.model.ho import HoUNet
from sde_gen.model.kunet import KUNet
from sde_gen.model.mlp import MLP
from sde_gen.model.ncsnpp import NCSNpp

__all__ = ["ADM", "MLP", "ADMEncoder", "DDPMpp", "Encoder", "HDiT", "HoUNet", "KUNet", "NCSNpp"]
