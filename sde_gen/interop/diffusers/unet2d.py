"""Settings and residual and attention blocks of diffusers' UNet2DModel."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from sde_gen.interop.converted_model import ObjectSpec
from sde_gen.interop.settings import (
    MOST_CLASSES,
    MOST_LEVELS,
    choice,
    flag,
    listed,
    real,
    reject_unknown,
    shown,
    whole,
    wholes,
)
from sde_gen.interop.weight_mapper import InverseWeightMapper, Transform, WeightMapper

BLOCK = {
    "norm1": "norm_in",
    "conv1": "conv_in",
    "time_emb_proj": "embed",
    "norm2": "norm_out",
    "conv2": "conv_out",
}
"""Parts of a residual block: names in diffusers and here."""

ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "out"}
"""Dense layers of attention: names in diffusers and here."""

EARLIER = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Names of these layers in diffusers before 0.13."""

DEFAULTS: dict[str, Any] = {
    "center_input_sample": False,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "freq_shift": 0,
    "flip_sin_to_cos": True,
    "mid_block_type": "UNetMidBlock2D",
    "layers_per_block": 2,
    "mid_block_scale_factor": 1.0,
    "downsample_padding": 1,
    "downsample_type": "conv",
    "upsample_type": "conv",
    "dropout": 0.0,
    "act_fn": "silu",
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "attn_norm_num_groups": None,
    "norm_eps": 1e-5,
    "resnet_time_scale_shift": "default",
    "add_attention": True,
    "class_embed_type": None,
    "num_class_embeds": None,
    "num_train_timesteps": None,
    "in_channels": 3,
    "out_channels": 3,
}
"""Defaults of the constructor's arguments except sizes, widths and block types."""


KNOWN = {*DEFAULTS, "sample_size", "block_out_channels", "down_block_types", "up_block_types"}
"""All arguments of the constructor."""


class UNet2DLayout(Protocol):
    """Mapping of a UNet2DModel to a network of sde_gen.

    Attributes:
        sizes: settings shared by all types of network.
    """

    sizes: "Sizes"

    def spec(self) -> ObjectSpec:
        """Return the specification of the network."""

    def map_weights(self, mapper: WeightMapper | InverseWeightMapper) -> None:
        """Copy the tensors, from or to diffusers."""

    def output_layers(self) -> list[str]:
        """Return the names of the convolutions whose sum is the output."""


class BlockKind:
    """Type of a block, parsed from its name.

    Arguments:
        name: as in ``down_block_types`` or ``up_block_types``.
        direction: ``down`` or ``up``.

    Raises:
        ValueError: the block does not exist or is not supported.
    """

    def __init__(self, name: Any, direction: str) -> None:
        word = name.removeprefix("UNetRes") if isinstance(name, str) else name  # files written in 2022
        both = direction.capitalize()
        known = (
            f"{both}Block2D",
            f"Attn{both}Block2D",
            f"Resnet{both}sampleBlock2D",
            f"Skip{both}Block2D",
            f"AttnSkip{both}Block2D",
        )
        choice({f"{direction}_block_types": word}, f"{direction}_block_types", *map(str.lower, known))
        self.attends = word.lower().startswith("attn")
        self.skips = "skip" in word.lower()
        self.inside = word.lower().startswith("resnet")


class Sizes:
    """Settings shared by all types of UNet2DModel.

    Arguments:
        config: arguments of the constructor by name.
        beside: whether half of the channels in are those of an image beside the noisy one.

    Attributes:
        image: channels of that image, 0 without.
        skips: True for skip blocks, which pass the image through all levels.
        down_inside: for each pair of adjacent levels, fine to coarse: True if a residual block of the encoder changes
            the resolution, False if a convolution does.
        up_inside: the same for the decoder, also fine to coarse.

    Raises:
        ValueError: a setting is missing or not supported.
    """

    def __init__(self, config: Mapping[str, Any], *, beside: bool = False) -> None:
        self.settings = settings = {**DEFAULTS, **config}
        reject_unknown(config, KNOWN, "UNet2DModel")
        for key, expected, why in (
            ("mid_block_type", "UNetMidBlock2D", ""),
            (
                "class_embed_type",
                None,
                "; labels are numbers of classes here, and each has a row of the table",
            ),
            ("time_embedding_dim", None, ""),
        ):
            if settings[key] != expected:
                raise ValueError(f"{key}={shown(settings[key])} is not supported; expected {expected}{why}")
        choice(settings, "act_fn", "silu", "swish")
        self.modulated = (
            choice(settings, "resnet_time_scale_shift", "default", "scale_shift") == "scale_shift"
        )
        size = (
            wholes(settings, "sample_size") if isinstance(settings.get("sample_size"), list | tuple) else []
        )
        sides = size or 2 * [whole(settings, "sample_size")]
        if len(sides) != 2:
            raise ValueError(f"sample_size={sides} is not supported; expected a side, or height and width")
        self.channels, odd = divmod(whole(settings, "in_channels"), 2 if beside else 1)
        if odd:
            raise ValueError(f"in_channels={settings['in_channels']}: expected an even number, of two images")
        self.image = self.channels if beside else 0
        self.shape = [self.channels, *sides]
        self.widths = wholes(settings, "block_out_channels", length=MOST_LEVELS)
        if not self.widths:
            raise ValueError("block_out_channels=[] is not supported; expected a number for every level")
        self.width, self.levels = self.widths[0], len(self.widths)
        self.multipliers = [n / self.width if n % self.width else n // self.width for n in self.widths]
        self.blocks = whole(settings, "layers_per_block")
        self._kinds()
        self.outputs, rest = divmod(whole(settings, "out_channels"), self.channels)
        if rest or self.outputs not in (1, 2):
            raise ValueError(
                f"out_channels={settings['out_channels']}: expected {self.channels}, or {2 * self.channels} with a "
                "variance"
            )
        self.classes = 0
        if settings["num_class_embeds"] is not None:
            self.classes = whole(settings, "num_class_embeds", minimum=0, maximum=MOST_CLASSES)
        self.dropout = real(settings, "dropout")
        self.middle = flag(settings, "add_attention")
        self.centered = flag(settings, "center_input_sample")
        self.head = None if settings["attention_head_dim"] is None else whole(settings, "attention_head_dim")

    def _kinds(self) -> None:
        """Return the types of the blocks, fine to coarse."""
        down = [BlockKind(name, "down") for name in listed(self.settings, "down_block_types")]
        up = [BlockKind(name, "up") for name in reversed(listed(self.settings, "up_block_types"))]
        for name, kinds in (("down", down), ("up", up)):
            if len(kinds) != self.levels:
                raise ValueError(
                    f"{name}_block_types has {len(kinds)} kinds of block for {self.levels} block_out_channels"
                )
        self.attention = [level for level, kind in enumerate(down) if kind.attends]
        rising = [level for level, kind in enumerate(up) if kind.attends]
        if rising != self.attention:
            raise ValueError(
                f"attention at levels {self.attention} of the encoder and {rising} of the decoder is not supported; "
                "expected the same levels"
            )
        self.skips = down[0].skips
        if any(kind.skips != self.skips for kind in down + up):
            raise ValueError(
                "down_block_types, up_block_types: a mixture of skip blocks and others is not supported"
            )
        self.down_inside = self._inside(down[:-1], "downsample_type")
        self.up_inside = self._inside(up[1:], "upsample_type")

    def _inside(self, kinds: list[BlockKind], key: str) -> list[bool]:
        """Return for each block type whether a residual block after it changes the resolution."""
        given = {key: "conv" if self.settings[key] is None else self.settings[key]}
        by_key = choice(given, key, "conv", "resnet") == "resnet"
        return [by_key if kind.attends and not kind.skips else kind.inside for kind in kinds]


def block(mapper: WeightMapper | InverseWeightMapper, target: str, source: str) -> None:
    """Copy a residual block."""
    for name, part in BLOCK.items():
        mapper.copy_layer(f"{target}.{part}", f"{source}.{name}")
    if f"{target}.skip.weight" in mapper.needed:
        mapper.copy_layer(f"{target}.skip", f"{source}.conv_shortcut")


def attention(mapper: WeightMapper | InverseWeightMapper, target: str, source: str) -> None:
    """Copy an attention block, with its dense layers as 1x1 convolutions."""
    normalization(mapper, target, source)
    for name, part in ATTENTION.items():
        mapper.copy_layer(f"{target}.{part}", f"{source}.{name}", AS_CONVOLUTION)


def joined_attention(mapper: WeightMapper | InverseWeightMapper, target: str, source: str) -> None:
    """Copy an attention block, with queries, keys and values merged into one convolution."""
    normalization(mapper, target, source)
    parts = [f"{source}.{name}" for name in ("to_q", "to_k", "to_v")]
    mapper.concat(f"{target}.qkv.weight", [f"{part}.weight" for part in parts], AS_CONVOLUTION)
    mapper.concat(f"{target}.qkv.bias", [f"{part}.bias" for part in parts])
    mapper.copy_layer(f"{target}.out", f"{source}.to_out.0", AS_CONVOLUTION)


def normalization(mapper: WeightMapper | InverseWeightMapper, target: str, source: str) -> None:
    """Copy the normalization of an attention block, if there is one."""
    if f"{target}.norm.weight" in mapper.needed:
        mapper.copy_layer(f"{target}.norm", f"{source}.group_norm")


def renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors by their current names in diffusers."""
    found = {}
    for name, value in tensors.items():
        head, _, kind = name.rpartition(".")
        at, _, layer = head.rpartition(".")
        if "attentions." in at and layer in EARLIER:
            name = f"{at}.{EARLIER[layer]}.{kind}"
        found[name] = value
    return found


def _halves_swapped(weight: Tensor) -> Tensor:
    first, second = weight.chunk(2, dim=1)
    return torch.cat([second, first], dim=1)


def _with_null_class(rows: Tensor) -> Tensor:
    """Append a row of zeros for the null class."""
    return torch.cat([rows, torch.zeros_like(rows[:1])])


AS_CONVOLUTION = Transform(lambda w: w[..., None, None], lambda w: w[..., 0, 0])
"""Weight of a dense layer as that of a 1x1 convolution."""

HALVES_SWAPPED = Transform(_halves_swapped, _halves_swapped)
"""Columns with cosines and sines exchanged."""

WITH_NULL_CLASS = Transform(_with_null_class, lambda rows: rows[:-1])
"""Class embeddings with a row of zeros for the null class."""
