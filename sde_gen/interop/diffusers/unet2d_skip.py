"""Mapping of diffusers' UNet2DModel with skip blocks (NCSN++)."""

from collections.abc import Mapping
from typing import Any

from sde_gen.interop.converted_model import ObjectSpec
from sde_gen.interop.diffusers.unet2d import Sizes, attention, block
from sde_gen.interop.settings import choice, real, shown
from sde_gen.interop.weight_mapper import InverseWeightMapper, WeightMapper
from sde_gen.model.adm.level_resample import ResBlockResample
from sde_gen.model.embedding import Fourier
from sde_gen.model.norms import QuarterGroupsConcatenated
from sde_gen.model.unet.base import UNet
from sde_gen.model.unet.progressive import SkipInput, SkipOutput
from sde_gen.model.unet.resample import FIR


class UNet2DSkipLayout:
    """Mapping of NCSN++ with progressive inputs and outputs.

    Arguments:
        config: arguments of the constructor by name.

    Raises:
        ValueError: a setting is missing or not supported.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.sizes = sizes = Sizes(config)
        settings = sizes.settings
        choice(settings, "time_embedding_type", "fourier")
        choice(settings, "resnet_time_scale_shift", "default")
        for key, expected in (
            ("norm_num_groups", None),
            ("attn_norm_num_groups", None),
            ("norm_eps", 1e-6),
            ("num_class_embeds", None),
            ("add_attention", True),
        ):
            if settings[key] != expected:
                raise ValueError(
                    f"{key}={shown(settings[key])} with skip blocks is not supported; expected {expected}"
                )
        if abs(real(settings, "mid_block_scale_factor") - 2**0.5) > 1e-6:
            raise ValueError(
                f"mid_block_scale_factor={settings['mid_block_scale_factor']} with skip blocks is not supported; "
                "expected the root of 2"
            )
        if sizes.head is not None and any(
            sizes.head != sizes.widths[n] for n in {*sizes.attention, sizes.levels - 1}
        ):
            raise ValueError(
                f"attention_head_dim={sizes.head} with skip blocks is not supported; expected None"
            )
        if sizes.channels != 3 or sizes.outputs != 1:
            raise ValueError(
                f"in_channels={sizes.channels}, out_channels={sizes.channels * sizes.outputs} with skip blocks: "
                "expected 3"
            )

    def spec(self) -> ObjectSpec:
        """Return the specification of the network."""
        sizes = self.sizes
        return ObjectSpec(
            UNet,
            shape=sizes.shape,
            width=sizes.width,
            multipliers=sizes.multipliers,
            blocks=sizes.blocks,
            attention_levels=sizes.attention,
            dropout=sizes.dropout,
            num_classes=0,
            input_frequencies=[],
            embedding=ObjectSpec(Fourier, size=sizes.width),
            resampler=ObjectSpec(FIR, taps=[1.0, 3.0, 3.0, 1.0]),
            progressive_input=ObjectSpec(SkipInput),
            progressive_output=SkipOutput,
            change=ObjectSpec(ResBlockResample),
            norms=ObjectSpec(QuarterGroupsConcatenated),
        )

    def map_weights(self, mapper: WeightMapper | InverseWeightMapper) -> None:
        """Copy the tensors, from or to diffusers."""
        levels, blocks = self.sizes.levels, self.sizes.blocks
        mapper.copy("embedding.frequencies", "time_proj.weight")
        mapper.ignore("time_proj.W", "an alias of time_proj.weight")
        for target, source in (
            ("embed.0", "time_embedding.linear_1"),
            ("embed.2", "time_embedding.linear_2"),
            ("stem", "conv_in"),
            (f"output.heads.{levels - 1}.norm", "conv_norm_out"),
            (f"output.heads.{levels - 1}.conv", "conv_out"),
        ):
            mapper.copy_layer(target, source)
        for number, target in enumerate(("middle_in", "middle_out")):
            block(mapper, target, f"mid_block.resnets.{number}")
        attention(mapper, "middle_attention", "mid_block.attentions.0")
        for level in range(levels):
            place = levels - 1 - level
            for index in range(blocks):
                block(mapper, f"down_blocks.{level * blocks + index}", f"down_blocks.{level}.resnets.{index}")
                if level in self.sizes.attention:
                    source = f"down_blocks.{level}.attentions.{index}"
                    attention(mapper, f"down_attention.{level * blocks + index}", source)
            for index in range(blocks + 1):
                block(
                    mapper, f"up_blocks.{place * (blocks + 1) + index}", f"up_blocks.{place}.resnets.{index}"
                )
            if level in self.sizes.attention:
                attention(mapper, f"up_attention.{place}", f"up_blocks.{place}.attentions.0")
            if level < levels - 1:
                block(mapper, f"descend.{level}", f"down_blocks.{level}.resnet_down")
                mapper.copy_layer(f"inputs.{level}.project", f"down_blocks.{level}.skip_conv")
                block(mapper, f"ascend.{level}", f"up_blocks.{level}.resnet_up")
                mapper.copy_layer(f"output.heads.{level}.norm", f"up_blocks.{level}.skip_norm")
                mapper.copy_layer(f"output.heads.{level}.conv", f"up_blocks.{level}.skip_conv")

    def output_layers(self) -> list[str]:
        """Return the names of the convolutions whose sum is the output."""
        return [f"output.heads.{level}.conv" for level in range(self.sizes.levels)]
