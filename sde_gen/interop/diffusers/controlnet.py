"""Mapping of diffusers' ControlNetModel to the branch of a controlled network."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sde_gen.interop.converted_model import ConvertedModel, ObjectSpec
from sde_gen.interop.diffusers.condition_settings import ConditionSettings
from sde_gen.interop.diffusers.conditioned_encoder import ConditionedEncoderLayout
from sde_gen.interop.diffusers.unet2d import renamed
from sde_gen.interop.settings import MOST_LEVELS, choice, flag, plausible, shown, whole, wholes
from sde_gen.interop.weight_mapper import WeightMapper
from sde_gen.model.control.branch import ControlBranch
from sde_gen.model.control.controlled import Controlled
from sde_gen.model.unet.conditioned_encoder import ConditionedEncoder

CONTROL_DEFAULTS: dict[str, Any] = {
    "conditioning_channels": 3,
    "controlnet_conditioning_channel_order": "rgb",
    "conditioning_embedding_out_channels": [16, 32, 96, 256],
    "global_pool_conditions": False,
}
"""Defaults of the arguments that a U-Net has not."""


def read(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> ConvertedModel:
    """Convert a ``ControlNetModel``, whose configuration lacks the run of the network that it controls.

    Channels of the hint are those of an image in RGB with values in [0, 1]: where the original takes BGR, the weights
    are exchanged. As in the original the projection ``encoder_hid_proj`` is not used.

    Source: von Platen et al., diffusers 0.42, models/controlnets/controlnet.py.

    Arguments:
        tensors: the state dictionary.
        config: the arguments of ``ControlNetModel`` by name: its ``config.json``.

    Returns:
        The model alone; process, codec and conditioning, shape and levels are those of the controlled network.

    Raises:
        ValueError: settings are missing or unsupported, or tensors do not fit; the message names them.
    """
    layout = ControlNetLayout(config)
    plausible(tensors, sum(layout.sizes.blocks))
    with torch.device("meta"):
        mapper = WeightMapper(renamed(tensors), layout.branch().make())
    layout.map_weights(mapper)
    state = {f"branches.0.{name}": value for name, value in mapper.finish().items()}
    return ConvertedModel(
        config={"model": layout.spec().config()},
        shape=(),
        levels=None,
        classes=layout.classes,
        state=state,
        unused=mapper.unused,
    )


class ControlNetLayout(ConditionedEncoderLayout):
    """Mapping of a ControlNetModel.

    Arguments:
        config: arguments of the constructor by name.

    Raises:
        ValueError: a setting is missing or not supported.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(ConditionSettings(_one_name_of_heads(config), CONTROL_DEFAULTS, "ControlNetModel"))
        settings = self.sizes.settings
        if settings["mid_block_type"] is None:
            raise ValueError("mid_block_type=None is not supported; expected a middle")
        self.channels = whole(settings, "in_channels")
        order = choice(settings, "controlnet_conditioning_channel_order", "rgb", "bgr")
        self.of_hint: dict[str, Any] = {
            "widths": wholes(settings, "conditioning_embedding_out_channels", length=MOST_LEVELS),
            "stride": 2,
            "pooled": flag(settings, "global_pool_conditions"),
        }
        self.hint = whole(settings, "conditioning_channels")
        self.reversed = order == "bgr"
        if not self.of_hint["widths"]:
            raise ValueError("conditioning_embedding_out_channels=[] is not supported; expected a number")

    def encoder(self) -> ObjectSpec:
        """Return the specification of the encoder."""
        sides = 2 * [2 ** (self.sizes.levels - 1)]
        return ObjectSpec(ConditionedEncoder, shape=[self.channels, *sides], **self.keywords())

    def branch(self) -> ObjectSpec:
        """Return the specification of the branch."""
        return ObjectSpec(ControlBranch, encoder=self.encoder(), channels=self.hint, **self.of_hint)

    def spec(self) -> ObjectSpec:
        """Return the specification of the controlled network, without the run that it names."""
        return ObjectSpec(
            Controlled,
            base="???",
            run="???",
            sha256=None,
            hint=self.hint,
            **self.of_hint,
            encoder=self.encoder(),
        )

    def map_weights(self, mapper: WeightMapper) -> None:
        """Copy the tensors."""
        self.map_encoder(mapper, "encoder.")
        for name in ("weight", "bias"):
            mapper.ignore(
                f"encoder_hid_proj.{name}", "a projection of tokens that the original does not apply"
            )
        source = "controlnet_cond_embedding"
        mapper.copy_layer("hint.0", f"{source}.conv_in", _last_first if self.reversed else None)
        blocks = 2 * (len(self.of_hint["widths"]) - 1)
        for index in range(blocks):
            mapper.copy_layer(f"hint.{2 * index + 2}", f"{source}.blocks.{index}")
        mapper.copy_layer(f"hint.{2 * blocks + 2}", f"{source}.conv_out")
        count = 1 + sum(self.sizes.blocks) + self.sizes.levels - 1
        for index in range(count):
            mapper.copy_layer(f"skips.{index}", f"controlnet_down_blocks.{index}")
        mapper.copy_layer("middle", "controlnet_mid_block")

    def _text(self) -> list[int]:
        """Return that tokens are not projected."""
        return []


def _last_first(weight: Tensor) -> Tensor:
    """Return the weight for inputs whose channels are in the reverse order."""
    return weight.flip(1)


def _one_name_of_heads(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings with the number of heads as ``attention_head_dim``, the older name.

    Raises:
        ValueError: there are both, and a kind of block that reads the older one as the channels of a head.
    """
    given = dict(config)
    heads = given.pop("num_attention_heads", None)
    if heads is None:
        return given
    kinds = given.get("down_block_types", ["CrossAttnDownBlock2D", "DownBlock2D"])
    if not isinstance(kinds, list | tuple) or {*map(str, kinds)} - {"CrossAttnDownBlock2D", "DownBlock2D"}:
        raise ValueError(
            f"num_attention_heads={shown(heads)} is not supported with down_block_types={shown(kinds)}; expected None"
        )
    return {**given, "attention_head_dim": heads}
