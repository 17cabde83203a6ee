"""Mapping of diffusers' UNet2DModel with plain blocks (DDPM and ADM)."""

from collections.abc import Iterator, Mapping
from typing import Any

from sde_gen.interop.converted_model import ObjectSpec
from sde_gen.interop.diffusers.unet2d import (
    HALVES_SWAPPED,
    WITH_NULL_CLASS,
    Sizes,
    attention,
    block,
    joined_attention,
)
from sde_gen.interop.settings import MOST_STEPS, choice, flag, real, shown, whole
from sde_gen.interop.weight_mapper import InverseWeightMapper, WeightMapper
from sde_gen.model.adm.adm import ADM
from sde_gen.model.adm.level_resample import ConvResample
from sde_gen.model.conditional import Conditions
from sde_gen.model.embedding import CosinePositional, Fourier, LearnedEmbedding, Positional
from sde_gen.model.norms import FixedGroups, FixedGroupsExceptMiddle
from sde_gen.model.unet.ddpm_unet import DDPMUNet
from sde_gen.model.unet.resample import Box, CenteredBox


class Plain:
    """Settings of networks with plain blocks besides their sizes.

    Arguments:
        sizes: settings shared by all types of network.

    Raises:
        ValueError: a setting is missing or not supported.
    """

    def __init__(self, sizes: Sizes) -> None:
        settings = sizes.settings
        self.width, self.levels = sizes.width, sizes.levels
        self.label = choice(settings, "time_embedding_type", "positional", "fourier", "learned")
        self.steps = (
            whole(settings, "num_train_timesteps", maximum=MOST_STEPS) if self.label == "learned" else 0
        )
        self.to_the_last = whole(settings, "freq_shift", minimum=0, maximum=1) == 1
        self.sine_first = not flag(settings, "flip_sin_to_cos")
        if settings["mid_block_scale_factor"] != 1:
            raise ValueError(
                f"mid_block_scale_factor={shown(settings['mid_block_scale_factor'])} is not supported; expected 1"
            )
        self.padded = whole(settings, "downsample_padding", minimum=0, maximum=1) == 1
        self.groups, self.eps = whole(settings, "norm_num_groups"), real(settings, "norm_eps")
        self.middle_groups: int | None = None if sizes.modulated else self.groups
        if settings["attn_norm_num_groups"] is not None:
            self.middle_groups = whole(settings, "attn_norm_num_groups")
        attending = {*sizes.attention, *([sizes.levels - 1] if sizes.middle else [])}
        for channels in (sizes.widths[level] for level in attending):
            if sizes.head is not None and channels % sizes.head:
                raise ValueError(
                    f"attention_head_dim={sizes.head} is not supported; expected a divisor of the {channels} channels"
                )

    def embedding(self) -> ObjectSpec:
        """Return the specification of the embedding of the noise label."""
        if self.label == "learned":
            return ObjectSpec(LearnedEmbedding, size=self.width, steps=self.steps)
        if self.label == "fourier":
            return ObjectSpec(Fourier, size=self.width)
        return ObjectSpec(Positional if self.to_the_last else CosinePositional, size=self.width)

    def norms(self) -> ObjectSpec:
        """Return the specification of the group normalization rule."""
        if self.middle_groups == self.groups:
            return ObjectSpec(FixedGroups, groups=self.groups, eps=self.eps)
        return ObjectSpec(
            FixedGroupsExceptMiddle, groups=self.groups, eps=self.eps, middle_groups=self.middle_groups
        )

    def resampler(self) -> ObjectSpec:
        """Return the specification of the resampler."""
        return ObjectSpec(CenteredBox if self.padded else Box)

    def label_layers(self, mapper: WeightMapper | InverseWeightMapper) -> None:
        """Copy the embedding of the noise label and its first dense layer."""
        if self.label == "learned":
            mapper.copy("embedding.rows.weight", "time_proj.weight")
        if self.label == "fourier":
            mapper.copy("embedding.frequencies", "time_proj.weight")
            mapper.ignore("time_proj.W", "an alias of time_proj.weight")
        # sines and cosines are in the opposite order here
        swap = self.label == "positional" and self.sine_first != self.to_the_last
        mapper.copy_layer("embed.0", "time_embedding.linear_1", HALVES_SWAPPED if swap else None)
        mapper.copy_layer("embed.2", "time_embedding.linear_2")


class DDPMLayout:
    """Mapping of DDPM: plain blocks with an added embedding, resampling by convolutions.

    Arguments:
        config: arguments of the constructor by name.
        beside: whether half of the channels in are those of an image beside the noisy one.

    Raises:
        ValueError: a setting is missing or not supported.
    """

    def __init__(self, config: Mapping[str, Any], *, beside: bool = False) -> None:
        self.sizes = Sizes(config, beside=beside)
        self.plain = Plain(self.sizes)

    def inputs(self) -> dict[str, ObjectSpec]:
        """Return the sizes of the network's conditions; nothing without any."""
        image = self.sizes.image
        return {"inputs": ObjectSpec(Conditions, image=image)} if image else {}

    def spec(self) -> ObjectSpec:
        """Return the specification of the network."""
        sizes = self.sizes
        return ObjectSpec(
            DDPMUNet,
            shape=sizes.shape,
            width=sizes.width,
            multipliers=sizes.multipliers,
            blocks=sizes.blocks,
            attention_levels=sizes.attention,
            head_channels=sizes.head,
            dropout=sizes.dropout,
            num_classes=sizes.classes,
            outputs=sizes.outputs,
            middle_attention=sizes.middle,
            embedding=self.plain.embedding(),
            change=ObjectSpec(ConvResample),
            resampler=self.plain.resampler(),
            norms=self.plain.norms(),
            **self.inputs(),
        )

    def map_weights(self, mapper: WeightMapper | InverseWeightMapper) -> None:
        """Copy the tensors, from or to diffusers."""
        ends(mapper, self)
        for target, source, attends in stages(self.sizes):
            block(mapper, f"{target}.0", source.format("resnets"))
            if attends:
                attention(mapper, f"{target}.1.block", source.format("attentions"))
        for number in (0, 1):
            place = number * (1 + self.sizes.middle)
            block(mapper, f"middle.{place}", f"mid_block.resnets.{number}")
        if self.sizes.middle:
            attention(mapper, "middle.1.block", "mid_block.attentions.0")
        for level, down, up in changes(self.sizes):
            mapper.copy_layer(
                f"{down}.0.block" if self.plain.padded else f"{down}.0.block.1",
                f"down_blocks.{level}.downsamplers.0.conv",
            )
            last = 1 + (self.sizes.levels - 1 - level in self.sizes.attention)
            mapper.copy_layer(f"{up}.{last}.block", f"up_blocks.{level}.upsamplers.0.conv")

    def output_layers(self) -> list[str]:
        """Return the names of the convolutions whose sum is the output."""
        return ["out"]


class ADMLayout(DDPMLayout):
    """Mapping of ADM: plain blocks with scale-shift normalization, or with resampling inside blocks.

    Blocks may change the resolution at some levels, and convolutions at others.

    Arguments:
        config: arguments of the constructor by name.

    Raises:
        ValueError: a setting is missing or not supported.
    """

    def spec(self) -> ObjectSpec:
        """Return the specification of the network."""
        sizes = self.sizes
        heads: dict[str, int] = {"heads": 1} if sizes.head is None else {"head_channels": sizes.head}
        return ObjectSpec(
            ADM,
            shape=sizes.shape,
            width=sizes.width,
            multipliers=sizes.multipliers,
            blocks=sizes.blocks,
            attention_levels=sizes.attention,
            **heads,
            dropout=sizes.dropout,
            num_classes=sizes.classes,
            outputs=sizes.outputs,
            modulated=sizes.modulated,
            **self._changes(),
            norms=self.plain.norms(),
            middle_attention=sizes.middle,
            embedding=self.plain.embedding(),
            resampler=self.plain.resampler(),
            **self.inputs(),
        )

    def map_weights(self, mapper: WeightMapper | InverseWeightMapper) -> None:
        """Copy the tensors, from or to diffusers."""
        ends(mapper, self)
        for target, source, attends in stages(self.sizes):
            block(mapper, f"{target}.block", source.format("resnets"))
            if attends:
                joined_attention(mapper, f"{target}.attention", source.format("attentions"))
        for number in (0, 1):
            block(mapper, f"middle.{number}.block", f"mid_block.resnets.{number}")
        if self.sizes.middle:
            joined_attention(mapper, "middle.0.attention", "mid_block.attentions.0")
        for level, down, up in changes(self.sizes):
            finer, coarser = f"up_blocks.{level}.upsamplers.0", f"down_blocks.{level}.downsamplers.0"
            if self.sizes.down_inside[level]:
                block(mapper, f"{down}.block", coarser)
            else:
                conv = "block.block" if self.plain.padded else "block.block.1"
                mapper.copy_layer(f"{down}.{conv}", f"{coarser}.conv")
            if self.sizes.up_inside[self.sizes.levels - 2 - level]:
                block(mapper, f"{up}.finer.0", finer)
            else:
                mapper.copy_layer(f"{up}.finer.0.block", f"{finer}.conv")

    def _changes(self) -> dict[str, Any]:
        """Return the specification of the level change, or a list of them by level if they differ."""
        down, up = (
            [None if inside else ObjectSpec(ConvResample) for inside in direction]
            for direction in (self.sizes.down_inside, self.sizes.up_inside)
        )
        kinds = {*self.sizes.down_inside, *self.sizes.up_inside}
        if len(kinds) > 1:
            return {"change": None, "down_changes": down, "up_changes": up}
        return {"change": None if kinds == {True} else ObjectSpec(ConvResample)}


def plain_layout(config: Mapping[str, Any], *, beside: bool = False) -> DDPMLayout:
    """Return the layout of a network with plain blocks.

    Arguments:
        config: arguments of the constructor by name.
        beside: whether half of the channels in are those of an image beside the noisy one.

    Raises:
        ValueError: a setting is missing or not supported.
    """
    sizes = Sizes(config, beside=beside)
    kind = ADMLayout if sizes.modulated or any(sizes.down_inside + sizes.up_inside) else DDPMLayout
    return kind(config, beside=beside)


def ends(mapper: WeightMapper | InverseWeightMapper, layout: DDPMLayout) -> None:
    """Copy the layers before the first and after the last block."""
    layout.plain.label_layers(mapper)
    if layout.sizes.classes:
        mapper.copy("classes.weight", "class_embedding.weight", WITH_NULL_CLASS)
    for target, source in (("stem", "conv_in"), ("norm", "conv_norm_out"), ("out", "conv_out")):
        mapper.copy_layer(target, source)


def stages(sizes: Sizes) -> Iterator[tuple[str, str, bool]]:
    """Yield name, name in diffusers (with a placeholder for the module type) and use of attention of every stage."""
    many = sizes.blocks + 1
    for level in range(sizes.levels):
        attends = level in sizes.attention
        for index in range(sizes.blocks):
            yield f"down.{level * many + index}", f"down_blocks.{level}.{{}}.{index}", attends
        place = sizes.levels - 1 - level
        for index in range(many):
            yield f"up.{place * many + index}", f"up_blocks.{place}.{{}}.{index}", attends


def changes(sizes: Sizes) -> Iterator[tuple[int, str, str]]:
    """Return the indices of diffusers' blocks that end with a resampling, with the resampling stages here."""
    for level in range(sizes.levels - 1):
        place = (level + 1) * (sizes.blocks + 1) - 1
        yield level, f"down.{place}", f"up.{place}"
