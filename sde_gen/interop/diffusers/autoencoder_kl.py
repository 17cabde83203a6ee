"""Autoencoders of diffusers: AutoencoderKL of Stable Diffusion 1.x, 2.x, XL and 3 and of Flux."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sde_gen.data.codec.uniform import UniformCodec
from sde_gen.data.conditioning.none import Unconditional
from sde_gen.denoiser.parametrization.edm import EDM
from sde_gen.interop.converted_model import ConvertedModel, ObjectSpec
from sde_gen.interop.diffusers.unet2d import AS_CONVOLUTION, ATTENTION, renamed
from sde_gen.interop.settings import (
    LARGEST,
    MOST_LEVELS,
    choice,
    flag,
    listed,
    plausible,
    real,
    reals,
    reject_unknown,
    shown,
    whole,
    wholes,
)
from sde_gen.interop.weight_mapper import WeightMapper
from sde_gen.model.activation import GELU, LeakyReLU, Mish, SiLU
from sde_gen.model.autoencoder.base import INITIAL_SCALE
from sde_gen.model.autoencoder.kl import KLAutoencoder
from sde_gen.model.norms import FixedGroups
from sde_gen.objective.autoencoding import Autoencoding
from sde_gen.sde.vp import VP

BLOCK = {"norm1": "norm_in", "conv1": "conv_in", "norm2": "norm_out", "conv2": "conv_out"}
"""Parts of a residual block: names in diffusers and here."""

ACTIVATIONS = {
    "silu": ObjectSpec(SiLU),
    "swish": ObjectSpec(SiLU),
    "gelu": ObjectSpec(GELU),
    "mish": ObjectSpec(Mish),
    "relu": ObjectSpec(LeakyReLU, slope=0.0),
}
"""Activations by their names in diffusers."""

DEFAULTS: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"],
    "up_block_types": ["UpDecoderBlock2D"],
    "block_out_channels": [64],
    "layers_per_block": 1,
    "act_fn": "silu",
    "latent_channels": 4,
    "norm_num_groups": 32,
    "sample_size": 32,
    "scaling_factor": 0.18215,
    "shift_factor": None,
    "latents_mean": None,
    "latents_std": None,
    "force_upcast": True,
    "use_quant_conv": True,
    "use_post_quant_conv": True,
    "mid_block_add_attention": True,
}
"""Arguments of the constructor of AutoencoderKL with their defaults."""


class CoderSettings:
    """Settings that AutoencoderKL and VQModel have in common.

    Arguments:
        kind: name of the class.
        config: arguments of the constructor by name.
        defaults: all arguments of the constructor, with their defaults.

    Raises:
        ValueError: a setting is unknown, missing or not supported.
    """

    def __init__(self, kind: str, config: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
        reject_unknown(config, defaults, kind)
        self.settings = settings = {**defaults, **config}
        size = settings["sample_size"]
        sides = (
            wholes(settings, "sample_size")
            if isinstance(size, list | tuple)
            else 2 * [whole(settings, "sample_size")]
        )
        if len(sides) != 2:
            raise ValueError(f"sample_size={sides} is not supported; expected a side, or height and width")
        image, out = whole(settings, "in_channels"), whole(settings, "out_channels")
        if image != out:
            raise ValueError(
                f"in_channels={image}, out_channels={out} are not supported; expected the same channels of images"
            )
        self.channels = wholes(settings, "block_out_channels", length=MOST_LEVELS)
        if not self.channels:
            raise ValueError("block_out_channels=[] is not supported; expected a number for every level")
        factor = 2 ** (len(self.channels) - 1)
        self.shape = [image, *(-(-side // factor) * factor for side in sides)]
        self.blocks = whole(settings, "layers_per_block")
        self.latent_channels = whole(settings, "latent_channels")
        self.middle = flag(settings, "mid_block_add_attention")
        down = self._attention("down", "DownEncoderBlock2D", settings["down_block_types"])
        up = self._attention("up", "UpDecoderBlock2D", settings["up_block_types"])[::-1]
        if down != up:
            raise ValueError(
                f"attention at levels {_true(down)} of the encoder and {_true(up)} of the decoder is not supported; "
                "expected the same levels"
            )
        self.attention = _true(down)
        groups = whole(settings, "norm_num_groups")
        if uneven := [width for width in self.channels if width % groups]:
            raise ValueError(f"norm_num_groups={groups} does not divide block_out_channels={uneven}")
        self.norms = ObjectSpec(FixedGroups, groups=groups, eps=1e-6)
        self.activation = ACTIVATIONS[choice(settings, "act_fn", *ACTIVATIONS)]

    def _attention(self, direction: str, plain: str, given: Any) -> list[bool]:
        key = f"{direction}_block_types"
        names = listed({key: given}, key, MOST_LEVELS)
        if len(names) != len(self.channels):
            raise ValueError(
                f"{key} has {len(names)} types of block for {len(self.channels)} block_out_channels"
            )
        return [
            choice({key: name}, key, plain.lower(), f"attn{plain}".lower()).startswith("attn")
            for name in names
        ]

    @property
    def common(self) -> dict[str, Any]:
        """Return the arguments that all autoencoders have."""
        return {
            "shape": self.shape,
            "channels": self.channels,
            "blocks": self.blocks,
            "latent_channels": self.latent_channels,
            "attention_levels": self.attention,
            "middle_attention": self.middle,
            "norms": self.norms,
            "activation": self.activation,
        }

    def standardization(self, channels: int) -> dict[str, Any]:
        """Return shift and scale of the latents: (z - shift) / scale has unit variance."""
        settings = self.settings
        factor = real(settings, "scaling_factor")
        if not factor > 0:
            raise ValueError(f"scaling_factor={factor} is not supported; expected a positive number")
        given = settings.get("shift_factor")
        shift = [0.0 if given is None else real(settings, "shift_factor")] * channels
        scale = [1 / factor] * channels
        mean, std = settings.get("latents_mean"), settings.get("latents_std")
        if (mean is None) != (std is None):
            raise ValueError(f"latents_mean={shown(mean)}, latents_std={shown(std)}: expected both, or null")
        if mean is not None:
            means, stds = reals(settings, "latents_mean", LARGEST), reals(settings, "latents_std", LARGEST)
            if not len(means) == len(stds) == channels or min(stds) <= 0 or given is not None:
                raise ValueError(
                    f"latents_mean={shown(mean)}, latents_std={shown(std)}, shift_factor={shown(given)}: expected a "
                    f"number and a positive number for each of {channels} channels, and no shift_factor"
                )
            shift, scale = means, [each / factor for each in stds]
        return {"latent_shift": shift, "latent_scale": scale}

    def map_coders(self, mapper: WeightMapper) -> None:
        """Copy encoder and decoder."""
        for coder in ("encoder", "decoder"):
            for target, source in (("stem", "conv_in"), ("norm", "conv_norm_out"), ("out", "conv_out")):
                mapper.copy_layer(f"{coder}.{target}", f"{coder}.{source}")
            for number, target in enumerate(("middle_in", "middle_out")):
                self._block(mapper, f"{coder}.{target}", f"{coder}.mid_block.resnets.{number}")
            if self.middle:
                self._attend(mapper, f"{coder}.middle_attention", f"{coder}.mid_block.attentions.0")
        levels = len(self.channels)
        for stage in range(levels):
            self._stage(mapper, f"encoder.stages.{stage}", f"encoder.down_blocks.{stage}", stage, self.blocks)
            self._stage(
                mapper,
                f"decoder.stages.{stage}",
                f"decoder.up_blocks.{stage}",
                levels - 1 - stage,
                self.blocks + 1,
            )
            if stage < levels - 1:
                mapper.copy_layer(
                    f"encoder.descend.{stage}.1", f"encoder.down_blocks.{stage}.downsamplers.0.conv"
                )
                mapper.copy_layer(f"decoder.ascend.{stage}", f"decoder.up_blocks.{stage}.upsamplers.0.conv")

    def _stage(self, mapper: WeightMapper, target: str, source: str, level: int, blocks: int) -> None:
        for index in range(blocks):
            self._block(mapper, f"{target}.{2 * index}", f"{source}.resnets.{index}")
            if level in self.attention:
                self._attend(mapper, f"{target}.{2 * index + 1}", f"{source}.attentions.{index}")

    def _block(self, mapper: WeightMapper, target: str, source: str) -> None:
        for name, part in BLOCK.items():
            mapper.copy_layer(f"{target}.{part}", f"{source}.{name}")
        if f"{target}.skip.weight" in mapper.needed:
            mapper.copy_layer(f"{target}.skip", f"{source}.conv_shortcut")

    def _attend(self, mapper: WeightMapper, target: str, source: str) -> None:
        mapper.copy_layer(f"{target}.norm", f"{source}.group_norm")
        for name, part in ATTENTION.items():
            mapper.copy_layer(f"{target}.{part}", f"{source}.{name}", AS_CONVOLUTION)


class AutoencoderLayout:
    """Mapping of an AutoencoderKL.

    Arguments:
        config: arguments of the constructor by name.

    Raises:
        ValueError: a setting is missing or not supported.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.sizes = CoderSettings("AutoencoderKL", config, DEFAULTS)
        self.quant = flag(self.sizes.settings, "use_quant_conv")
        self.post = flag(self.sizes.settings, "use_post_quant_conv")

    def spec(self) -> ObjectSpec:
        """Return the specification of the network."""
        return ObjectSpec(
            KLAutoencoder,
            quant_convolution=self.quant,
            post_quant_convolution=self.post,
            **self.sizes.standardization(self.sizes.latent_channels),
            **self.sizes.common,
        )

    def map_weights(self, mapper: WeightMapper) -> None:
        """Copy the tensors."""
        self.sizes.map_coders(mapper)
        if self.quant:
            mapper.copy_layer("quant", "quant_conv")
        if self.post:
            mapper.copy_layer("post_quant", "post_quant_conv")


def read(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> ConvertedModel:
    """Convert an ``AutoencoderKL``.

    Latents for a diffusion model are ``(z - shift_factor) * scaling_factor``, which the codec of latents reads from the
    network's ``latent_shift`` and ``latent_scale``. A configuration without scaling_factor has the default 0.18215.

    Source: von Platen et al., diffusers 0.42, models/autoencoders/autoencoder_kl.py and vae.py.

    Arguments:
        tensors: the state dictionary.
        config: the arguments of ``AutoencoderKL`` by name: its ``config.json``.

    Raises:
        ValueError: settings are missing or unsupported, or tensors do not fit; the message names them.
    """
    layout = AutoencoderLayout(config)
    net, sizes = layout.spec(), layout.sizes
    plausible(tensors, len(sizes.channels) * sizes.blocks)
    with torch.device("meta"):
        mapper = WeightMapper(renamed(tensors), net.make())
    layout.map_weights(mapper)
    return converted(net, sizes.shape, mapper)


def converted(net: ObjectSpec, shape: list[int], mapper: WeightMapper) -> ConvertedModel:
    """Return an autoencoder whose tensors have been copied, for images on [-1, 1]."""
    mapper.state["log_scale"] = torch.full(mapper.needed["log_scale"], math.log(INITIAL_SCALE))
    codec = ObjectSpec(UniformCodec, levels=256, low=-1.0, high=1.0)
    return ConvertedModel(
        config={
            "model": net.config(),
            "objective": ObjectSpec(Autoencoding, codec=codec).config(),
            "sde": ObjectSpec(VP).config(),
            "parametrization": ObjectSpec(EDM).config(),
            "codec": codec.config(),
            "conditioning": ObjectSpec(Unconditional).config(),
        },
        shape=tuple(shape),
        levels=256,
        classes=0,
        state=mapper.finish(),
        unused=mapper.unused,
        notes=(f"the scale of the decoder's distribution, which the file lacks, is {INITIAL_SCALE:g}",),
    )


def _true(flags: list[bool]) -> list[int]:
    return [level for level, each in enumerate(flags) if each]
