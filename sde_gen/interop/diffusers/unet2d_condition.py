"""Mapping of diffusers' UNet2DConditionModel: Stable Diffusion, SDXL, inpainting, upscaler, DeepFloyd IF."""

from collections.abc import Mapping
from typing import Any

from sde_gen.interop.converted_model import ObjectSpec
from sde_gen.interop.diffusers.condition_defaults import UNET_DEFAULTS
from sde_gen.interop.diffusers.condition_settings import ConditionSettings
from sde_gen.interop.diffusers.conditioned_encoder import ConditionedEncoderLayout, change, stage
from sde_gen.interop.settings import whole, wholes
from sde_gen.interop.weight_mapper import WeightMapper
from sde_gen.model.unet.conditioned_unet import ConditionedUNet


class UNet2DConditionLayout(ConditionedEncoderLayout):
    """Mapping of a UNet2DConditionModel.

    Arguments:
        config: arguments of the constructor by name.
        variance: whether the scheduler takes a learned variance beside the prediction.

    Raises:
        ValueError: a setting is missing or not supported.
    """

    def __init__(self, config: Mapping[str, Any], *, variance: bool) -> None:
        super().__init__(ConditionSettings(config, UNET_DEFAULTS, "UNet2DConditionModel"))
        settings = self.sizes.settings
        inputs, outputs = whole(settings, "in_channels"), whole(settings, "out_channels")
        self.outputs = 2 if variance or outputs == 2 * inputs else 1
        self.channels, rest = divmod(outputs, self.outputs)
        self.image = inputs - self.channels
        if rest or self.image < 0:
            raise ValueError(
                f"in_channels={inputs}, out_channels={outputs}: expected as many channels out as in or fewer, or twice "
                "as many with a variance"
            )
        self.shape = [self.channels, *_sides(settings)]

    def spec(self) -> ObjectSpec:
        """Return the specification of the network."""
        sizes = self.sizes
        return ObjectSpec(
            ConditionedUNet,
            shape=self.shape,
            image=self.image,
            up=[sizes.level(number, up=True) for number in range(sizes.levels)],
            outputs=self.outputs,
            kernel_out=self.kernel("conv_out_kernel"),
            **self.keywords(),
        )

    def map_weights(self, mapper: WeightMapper) -> None:
        """Copy the tensors."""
        sizes = self.sizes
        self.map_encoder(mapper)
        at = 0
        for place in range(sizes.levels):
            level = sizes.levels - 1 - place
            for index in range(sizes.blocks[level] + 1):
                stage(mapper, f"up.{at}", f"up_blocks.{place}", index, sizes.up[level])
                at += 1
            if level:
                change(mapper, f"up.{at - 1}.change", f"up_blocks.{place}.upsamplers.0", sizes.up[level])
        mapper.copy_layer("norm", "conv_norm_out")
        mapper.copy_layer("out", "conv_out")


def _sides(settings: Mapping[str, Any]) -> list[int]:
    given = settings["sample_size"]
    sides = (
        wholes(settings, "sample_size")
        if isinstance(given, list | tuple)
        else 2 * [whole(settings, "sample_size")]
    )
    if len(sides) != 2:
        raise ValueError(f"sample_size={sides} is not supported; expected a side, or height and width")
    return sides
