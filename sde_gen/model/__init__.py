"""Networks: plain modules ``net(x, c_noise, label=None)``, independent of the process."""

from sde_gen.model.activation import ELU, GELU, LeakyReLU, Mish, SiLU
from sde_gen.model.adapter import Adapter, LoRA, NoAdapter
from sde_gen.model.adm.adm import ADM
from sde_gen.model.adm.level_resample import ConvResample, LevelResample, PlainResample, ResBlockResample
from sde_gen.model.autoencoder.base import Autoencoder, LatentPosterior, Reconstruction
from sde_gen.model.autoencoder.codes import CodeAutoencoder
from sde_gen.model.autoencoder.discrete import DiscreteAutoencoder
from sde_gen.model.autoencoder.distribution import Gaussian, LocationScale, Logistic
from sde_gen.model.autoencoder.kl import KLAutoencoder
from sde_gen.model.autoencoder.vq import VQAutoencoder
from sde_gen.model.classifier.adm_encoder import ADMEncoder
from sde_gen.model.classifier.encoder import Encoder
from sde_gen.model.classifier.pooling import (
    AttentionPooling,
    AveragePooling,
    MultiScalePooling,
    NormalizedMultiScalePooling,
    Pooling,
)
from sde_gen.model.classifier.vector_encoder import VectorEncoder
from sde_gen.model.conditional import ConditionalNetwork, Conditions
from sde_gen.model.control.branch import ControlBranch
from sde_gen.model.control.controlled import Controlled
from sde_gen.model.experts import NoiseExperts
from sde_gen.model.generator_pair import Discriminator, GeneratorPair
from sde_gen.model.mlp import MLP
from sde_gen.model.modulated_mlp import ModulatedMLP
from sde_gen.model.norms import (
    FixedGroups,
    FixedGroupsExceptMiddle,
    GCDGroups,
    GroupNorm,
    GroupNormRule,
    QuarterGroups,
    QuarterGroupsConcatenated,
    norm,
)
from sde_gen.model.text.encoder import (
    BagOfWords,
    PooledTransformer,
    TextEncoder,
    TextFeatures,
    TextTransformer,
)
from sde_gen.model.transformer.attention import (
    AttentionPattern,
    GlobalAttention,
    NeighborhoodAttention,
    ShiftedWindowAttention,
    Tiling,
)
from sde_gen.model.transformer.dit import DiT
from sde_gen.model.transformer.hdit import HDiT, Level
from sde_gen.model.transformer.jit import JiT
from sde_gen.model.transformer.joint_transformer import JointTransformer
from sde_gen.model.transformer.mmdit import MMDiT
from sde_gen.model.transformer.prior_transformer import PriorTransformer
from sde_gen.model.transformer.rotary import LearnedRotation, Rotary, Rotation, SpreadRotation, TokenGrid
from sde_gen.model.transformer.token_transformer import KeyValueCache, TokenTransformer
from sde_gen.model.unet.base import UNet
from sde_gen.model.unet.condition_inputs import ConditionInputs
from sde_gen.model.unet.conditioned_encoder import ConditionedEncoder, ConditionedLevel
from sde_gen.model.unet.conditioned_unet import ConditionedUNet
from sde_gen.model.unet.ddpm_unet import DDPMUNet
from sde_gen.model.unet.ddpmpp import DDPMpp
from sde_gen.model.unet.embedding_unet import EmbeddingUNet
from sde_gen.model.unet.kdiff_unet import KDiffusionUNet
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
from sde_gen.model.unet.song_unet import SongUNet
from sde_gen.model.unet.unet_cross import UNetCross

__all__ = [
    "ADM",
    "ELU",
    "GELU",
    "MLP",
    "ADMEncoder",
    "Adapter",
    "AttentionPattern",
    "AttentionPooling",
    "Autoencoder",
    "AveragePooling",
    "BagOfWords",
    "CodeAutoencoder",
    "ConditionInputs",
    "ConditionalNetwork",
    "ConditionedEncoder",
    "ConditionedLevel",
    "ConditionedUNet",
    "Conditions",
    "ControlBranch",
    "Controlled",
    "ConvResample",
    "DDPMUNet",
    "DDPMpp",
    "DiT",
    "DiscreteAutoencoder",
    "Discriminator",
    "EmbeddingUNet",
    "Encoder",
    "FixedGroups",
    "FixedGroupsExceptMiddle",
    "GCDGroups",
    "Gaussian",
    "GeneratorPair",
    "GlobalAttention",
    "GroupNorm",
    "GroupNormRule",
    "HDiT",
    "Head",
    "InputLevel",
    "JiT",
    "JoinedInput",
    "JointTransformer",
    "KDiffusionUNet",
    "KLAutoencoder",
    "KeyValueCache",
    "LatentPosterior",
    "LeakyReLU",
    "LearnedRotation",
    "Level",
    "LevelResample",
    "LoRA",
    "LocationScale",
    "Logistic",
    "MMDiT",
    "Mish",
    "ModulatedMLP",
    "MultiScalePooling",
    "NCSNpp",
    "NeighborhoodAttention",
    "NoAdapter",
    "NoInput",
    "NoOutput",
    "NoiseExperts",
    "NormalizedMultiScalePooling",
    "PlainResample",
    "PooledTransformer",
    "Pooling",
    "PriorTransformer",
    "ProgressiveInput",
    "ProgressiveOutput",
    "QuarterGroups",
    "QuarterGroupsConcatenated",
    "Reconstruction",
    "ResBlockResample",
    "ResidualInput",
    "ResidualOutput",
    "Rotary",
    "Rotation",
    "ShiftedWindowAttention",
    "SiLU",
    "SkipInput",
    "SkipOutput",
    "SongUNet",
    "SpreadRotation",
    "TextEncoder",
    "TextFeatures",
    "TextTransformer",
    "Tiling",
    "TokenGrid",
    "TokenTransformer",
    "UNet",
    "UNetCross",
    "VQAutoencoder",
    "VectorEncoder",
    "norm",
]


def __dir__() -> list[str]:
    return sorted(__all__)
