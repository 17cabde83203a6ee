"""The UNet2DModel of diffusers: which of our U-Nets it is, and where its tensors go."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from sde_gen.interop.recipe import Recipe
from sde_gen.interop.settings import choice, need
from sde_gen.interop.transfer import Change, Return, Transfer
from sde_gen.model.change import BlockChange, ConvolutionChange
from sde_gen.model.embedding import CosinePositional, Fourier, Positional
from sde_gen.model.ho import HoUNet
from sde_gen.model.norms import Fixed, JoinedQuarters
from sde_gen.model.pyramid import SkipInput, SkipOutput
from sde_gen.model.resample import FIR, Box, CentredBox
from sde_gen.model.unet import UNet

BLOCK = {
    "norm1": "norm_in",
    "conv1": "conv_in",
    "time_emb_proj": "embed",
    "norm2": "norm_out",
    "conv2": "conv_out",
}
"""Their names of the parts of a residual block, and ours."""

ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "out"}
"""Their names of the dense layers of an attention, and ours."""

EARLIER = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""What those layers were called in files of diffusers before 0.13."""

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
}
"""What their constructor takes beside sizes, channels and kinds of block, and what it assumes."""


class Layout(Protocol):
    """One of their kinds of network in our terms."""

    def recipe(self) -> Recipe:
        """Our network."""

    def move(self, moved: Transfer) -> None:
        """Move their tensors to our network."""


class Sizes:
    """What every UNet2DModel says of itself.

    Arguments:
        config: the arguments of their constructor by name.
        kinds: their kinds of block on the way down, without and with attention; up likewise.

    Raises:
        ValueError: a setting is missing, or one that our networks do not have.
    """

    def __init__(self, config: Mapping[str, Any], down: tuple[str, str], up: tuple[str, str]) -> None:
        said = {**DEFAULTS, **config}
        self.said = said
        for key, expected in (
            ("mid_block_type", "UNetMidBlock2D"),
            ("downsample_type", "conv"),
            ("upsample_type", "conv"),
            ("resnet_time_scale_shift", "default"),
            ("class_embed_type", None),
            ("time_embedding_dim", None),
        ):
            if said[key] != expected:
                raise ValueError(f"{key}={said[key]!r} is not supported; expected {expected!r}")
        choice(said, "act_fn", "silu", "swish")
        size = need(said, "sample_size")
        sides = [int(side) for side in size] if isinstance(size, list | tuple) else [int(size), int(size)]
        self.channels, channels = (
            int(said.get("in_channels", 3)),
            [int(n) for n in need(said, "block_out_channels")],
        )
        self.shape = [self.channels, *sides]
        self.width, self.levels = channels[0], len(channels)
        self.multipliers = [n // self.width for n in channels]
        if any(n % self.width for n in channels):
            raise ValueError(
                f"block_out_channels={channels} is not supported; expected multiples of the first"
            )
        self.blocks = int(said["layers_per_block"])
        self.attention = [
            n
            for n, kind in enumerate(need(said, "down_block_types"))
            if choice({"kind": kind}, "kind", *down) == down[1]
        ]
        rising = [
            n
            for n, kind in enumerate(reversed(need(said, "up_block_types")))
            if choice({"kind": kind}, "kind", *up) == up[1]
        ]
        if rising != self.attention:
            raise ValueError(
                f"attention at levels {self.attention} on the way down and {rising} on the way up is not supported; "
                "expected the same levels"
            )
        self.outputs, rest = divmod(int(said.get("out_channels", 3)), self.channels)
        if rest or self.outputs not in (1, 2):
            raise ValueError(
                f"out_channels={said['out_channels']}: expected {self.channels}, or {2 * self.channels} with a variance"
            )
        self.classes = int(said["num_class_embeds"] or 0)
        self.dropout = float(said["dropout"])
        self.head = said["attention_head_dim"]


class DDPMLayout:
    """Their network of plain blocks: that of DDPM.

    Arguments:
        config: the arguments of their constructor by name.

    Raises:
        ValueError: a setting is missing, or one that our network does not have.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.sizes = sizes = Sizes(config, ("downblock2d", "attndownblock2d"), ("upblock2d", "attnupblock2d"))
        said = sizes.said
        choice(said, "time_embedding_type", "positional")
        if said["freq_shift"] not in (0, 1):
            raise ValueError(f"freq_shift={said['freq_shift']} is not supported; expected 0 or 1")
        if said["mid_block_scale_factor"] != 1:
            raise ValueError(
                f"mid_block_scale_factor={said['mid_block_scale_factor']} is not supported; expected 1"
            )
        if said["downsample_padding"] not in (0, 1):
            raise ValueError(
                f"downsample_padding={said['downsample_padding']} is not supported; expected 0 or 1"
            )
        if said["attn_norm_num_groups"] not in (None, said["norm_num_groups"]):
            raise ValueError(
                f"attn_norm_num_groups={said['attn_norm_num_groups']} is not supported; "
                f"expected norm_num_groups={said['norm_num_groups']}"
            )
        self.groups = int(need(said, "norm_num_groups"))
        self.padded = said["downsample_padding"] == 1
        self.sine_first, self.to_the_last = not said["flip_sin_to_cos"], said["freq_shift"] == 1

    def recipe(self) -> Recipe:
        """Our network."""
        sizes = self.sizes
        return Recipe(
            HoUNet,
            shape=sizes.shape,
            width=sizes.width,
            multipliers=sizes.multipliers,
            blocks=sizes.blocks,
            attention_levels=sizes.attention,
            head_channels=None if sizes.head is None else int(sizes.head),
            dropout=sizes.dropout,
            num_classes=sizes.classes,
            outputs=sizes.outputs,
            middle_attention=bool(sizes.said["add_attention"]),
            embedding=Recipe(Positional if self.to_the_last else CosinePositional, size=sizes.width),
            change=Recipe(ConvolutionChange),
            resampler=Recipe(CentredBox if self.padded else Box),
            norms=Recipe(Fixed, groups=self.groups, eps=float(sizes.said["norm_eps"])),
        )

    def move(self, moved: Transfer | Return) -> None:
        """Move their tensors to our network, or ours to theirs."""
        swap = self.sine_first != self.to_the_last  # our sinusoids are in the other order
        moved.layer("embed.0", "time_embedding.linear_1", HALVES_SWAPPED if swap else None)
        moved.layer("embed.2", "time_embedding.linear_2")
        if self.sizes.classes:
            moved.move("classes.weight", "class_embedding.weight", WITH_NULL_CLASS)
        for ours, theirs in self._layers():
            moved.layer(ours, theirs)
        for ours, theirs in self._blocks():
            block(moved, ours, theirs)
        for ours, theirs in self._attentions():
            attention(moved, ours, theirs)

    def heads(self) -> list[str]:
        """Our names of the convolutions whose sum is the output."""
        return ["out"]

    def _layers(self) -> Iterator[tuple[str, str]]:
        yield from (("stem", "conv_in"), ("norm", "conv_norm_out"), ("out", "conv_out"))
        for level in range(self.sizes.levels - 1):
            place = (level + 1) * (self.sizes.blocks + 1) - 1
            conv = "block" if self.padded else "block.1"
            yield f"down.{place}.0.{conv}", f"down_blocks.{level}.downsamplers.0.conv"
            last = 1 + (self.sizes.levels - 1 - level in self.sizes.attention)
            yield f"up.{place}.{last}.block", f"up_blocks.{level}.upsamplers.0.conv"

    def _blocks(self) -> Iterator[tuple[str, str]]:
        for ours, theirs, _ in self._stages():
            yield f"{ours}.0", theirs.format("resnets")
        yield "middle.0", "mid_block.resnets.0"
        yield f"middle.{1 + bool(self.sizes.said['add_attention'])}", "mid_block.resnets.1"

    def _attentions(self) -> Iterator[tuple[str, str]]:
        for ours, theirs, attends in self._stages():
            if attends:
                yield f"{ours}.1.block", theirs.format("attentions")
        if self.sizes.said["add_attention"]:
            yield "middle.1.block", "mid_block.attentions.0"

    def _stages(self) -> Iterator[tuple[str, str, bool]]:
        """Our names of the stages, theirs with a place for the kind of module, and whether they attend."""
        many = self.sizes.blocks + 1
        for level in range(self.sizes.levels):
            attends = level in self.sizes.attention
            for index in range(self.sizes.blocks):
                yield f"down.{level * many + index}", f"down_blocks.{level}.{{}}.{index}", attends
            place = self.sizes.levels - 1 - level
            for index in range(many):
                yield f"up.{place * many + index}", f"up_blocks.{place}.{{}}.{index}", attends


class NCSNppLayout:
    """Their network of skip blocks: NCSN++ with the image in and out at every level.

    Arguments:
        config: the arguments of their constructor by name.

    Raises:
        ValueError: a setting is missing, or one that our network does not have.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        down, up = ("skipdownblock2d", "attnskipdownblock2d"), ("skipupblock2d", "attnskipupblock2d")
        self.sizes = sizes = Sizes(config, down, up)
        said = sizes.said
        choice(said, "time_embedding_type", "fourier")
        for key, expected in (
            ("norm_num_groups", None),
            ("attn_norm_num_groups", None),
            ("norm_eps", 1e-6),
            ("num_class_embeds", None),
            ("add_attention", True),
        ):
            if said[key] != expected:
                raise ValueError(f"{key}={said[key]} with skip blocks is not supported; expected {expected}")
        if abs(float(said["mid_block_scale_factor"]) - 2**0.5) > 1e-6:
            raise ValueError(
                f"mid_block_scale_factor={said['mid_block_scale_factor']} with skip blocks is not supported; "
                "expected the root of 2"
            )
        if sizes.head is not None and any(
            sizes.head != sizes.width * sizes.multipliers[n] for n in {*sizes.attention, sizes.levels - 1}
        ):
            raise ValueError(
                f"attention_head_dim={sizes.head} with skip blocks is not supported; expected None"
            )
        if sizes.channels != 3 or sizes.outputs != 1:
            raise ValueError(
                f"in_channels={sizes.channels}, out_channels={sizes.channels * sizes.outputs} with skip blocks: "
                "theirs have 3"
            )

    def recipe(self) -> Recipe:
        """Our network."""
        sizes = self.sizes
        return Recipe(
            UNet,
            shape=sizes.shape,
            width=sizes.width,
            multipliers=sizes.multipliers,
            blocks=sizes.blocks,
            attention_levels=sizes.attention,
            dropout=sizes.dropout,
            num_classes=0,
            input_frequencies=[],
            embedding=Recipe(Fourier, size=sizes.width),
            resampler=Recipe(FIR, taps=[1.0, 3.0, 3.0, 1.0]),
            progressive_input=Recipe(SkipInput),
            progressive_output=SkipOutput,
            change=Recipe(BlockChange),
            norms=Recipe(JoinedQuarters),
        )

    def move(self, moved: Transfer) -> None:
        """Move their tensors to our network."""
        levels, blocks = self.sizes.levels, self.sizes.blocks
        moved.move("embedding.frequencies", "time_proj.weight")
        moved.leave("time_proj.W", "a second name of time_proj.weight")
        for ours, theirs in (
            ("embed.0", "time_embedding.linear_1"),
            ("embed.2", "time_embedding.linear_2"),
            ("stem", "conv_in"),
            (f"output.heads.{levels - 1}.norm", "conv_norm_out"),
            (f"output.heads.{levels - 1}.conv", "conv_out"),
        ):
            moved.layer(ours, theirs)
        for number, ours in enumerate(("middle_in", "middle_out")):
            block(moved, ours, f"mid_block.resnets.{number}")
        attention(moved, "middle_attention", "mid_block.attentions.0")
        for level in range(levels):
            place = levels - 1 - level
            for index in range(blocks):
                block(moved, f"down_blocks.{level * blocks + index}", f"down_blocks.{level}.resnets.{index}")
                if level in self.sizes.attention:
                    theirs = f"down_blocks.{level}.attentions.{index}"
                    attention(moved, f"down_attention.{level * blocks + index}", theirs)
            for index in range(blocks + 1):
                block(
                    moved, f"up_blocks.{place * (blocks + 1) + index}", f"up_blocks.{place}.resnets.{index}"
                )
            if level in self.sizes.attention:
                attention(moved, f"up_attention.{place}", f"up_blocks.{place}.attentions.0")
            if level < levels - 1:
                block(moved, f"descend.{level}", f"down_blocks.{level}.resnet_down")
                moved.layer(f"inputs.{level}.project", f"down_blocks.{level}.skip_conv")
                block(moved, f"ascend.{level}", f"up_blocks.{level}.resnet_up")
                moved.layer(f"output.heads.{level}.norm", f"up_blocks.{level}.skip_norm")
                moved.layer(f"output.heads.{level}.conv", f"up_blocks.{level}.skip_conv")

    def heads(self) -> list[str]:
        """Our names of the convolutions whose sum is the output."""
        return [f"output.heads.{level}.conv" for level in range(self.sizes.levels)]


def block(moved: Transfer | Return, ours: str, theirs: str) -> None:
    """Move a residual block."""
    for name, mine in BLOCK.items():
        moved.layer(f"{ours}.{mine}", f"{theirs}.{name}")
    if f"{ours}.skip.weight" in moved.needed:
        moved.layer(f"{ours}.skip", f"{theirs}.conv_shortcut")


def attention(moved: Transfer | Return, ours: str, theirs: str) -> None:
    """Move an attention, whose dense layers are 1x1 convolutions here."""
    moved.layer(f"{ours}.norm", f"{theirs}.group_norm")
    for name, mine in ATTENTION.items():
        moved.layer(f"{ours}.{mine}", f"{theirs}.{name}", AS_CONVOLUTION)


def renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by the names that diffusers has for them now."""
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
    """A row of zeros after the classes."""
    return torch.cat([rows, torch.zeros_like(rows[:1])])


AS_CONVOLUTION = Change(lambda w: w[..., None, None], lambda w: w[..., 0, 0])
"""A dense layer's weight as that of a 1x1 convolution."""

HALVES_SWAPPED = Change(_halves_swapped, _halves_swapped)
"""Columns for sinusoids in the other order."""

WITH_NULL_CLASS = Change(_with_null_class, lambda rows: rows[:-1])
"""Rows of classes, with one for no class."""
