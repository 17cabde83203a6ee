"""The U-Net of CompVis' latent diffusion: names and settings of diffusers' UNet2DConditionModel."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sde_gen.interop.settings import MOST_LEVELS

BLOCK = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
"""Layers of a residual block: names in CompVis' code and in diffusers."""

OUTER = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
"""Layers outside the levels."""

NUMBER_WIDTH = 256
"""Sinusoids of a number beside the text of SDXL (Podell et al., 2023, arXiv:2307.01952, their code)."""

HEAD = 64
"""Channels of a head of attention where the projections are dense layers."""

HEADS = 8
"""Heads of attention where the projections are convolutions."""


class LevelsOfBlocks:
    """Levels of the network, read off the names.

    Arguments:
        tensors: the tensors of the network.

    Attributes:
        down: for every level the numbers of its ``input_blocks``.
        up: for every level of the way up, coarse to fine, those of its ``output_blocks``.

    Raises:
        ValueError: the names are not those of such a network.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors
        if "input_blocks.0.0.weight" not in tensors or "out.2.weight" not in tensors:
            raise ValueError(
                "the file has no network of latent diffusion (model.diffusion_model.input_blocks.0.0)"
            )
        self.down = self._levels("input_blocks", 1)
        self.up = self._levels("output_blocks", 0)
        if len(self.down) != len(self.up) or len(self.down) > MOST_LEVELS:
            raise ValueError(
                f"the network has {len(self.down)} levels down and {len(self.up)} up; expected as many"
            )

    def _levels(self, side: str, first: int) -> list[list[int]]:
        numbers = {
            int(found[1]) for name in self.tensors if (found := re.match(rf"{side}\.(\d{{1,4}})\.", name))
        }
        if numbers != set(range(max(numbers, default=-1) + 1)):
            raise ValueError(f"the numbers of {side} have gaps: {sorted(numbers)[:20]}")
        levels: list[list[int]] = [[]]
        for number in range(first, max(numbers) + 1):
            if f"{side}.{number}.0.op.weight" in self.tensors:  # a block that halves
                levels.append([])
                continue
            levels[-1].append(number)
            if self.enlarging(number) is not None and side == "output_blocks":
                levels.append([])
        if not all(levels):
            raise ValueError(f"{side} has a level without blocks")
        return levels

    def enlarging(self, number: int) -> int | None:
        """Return the place of the doubling of the resolution in an output block; None without."""
        return next(
            (place for place in (1, 2) if f"output_blocks.{number}.{place}.conv.weight" in self.tensors), None
        )

    def depth(self, prefix: str) -> int:
        """Return the transformer blocks behind a residual block."""
        found = {
            int(match[1])
            for name in self.tensors
            if (match := re.match(rf"{re.escape(prefix)}\.transformer_blocks\.(\d{{1,4}})\.", name))
        }
        return len(found)


def names(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the prefixes of names in CompVis' code and in diffusers.

    Raises:
        ValueError: as :class:`LevelsOfBlocks`.
    """
    stages, found = LevelsOfBlocks(tensors), dict(OUTER)
    if "label_emb.weight" in tensors:
        found["label_emb"] = "class_embedding"

    def block(source: str, target: str) -> None:
        found.update({f"{source}.{name}": f"{target}.{part}" for name, part in BLOCK.items()})

    for level, numbers in enumerate(stages.down):
        for place, number in enumerate(numbers):
            block(f"input_blocks.{number}.0", f"down_blocks.{level}.resnets.{place}")
            found[f"input_blocks.{number}.1"] = f"down_blocks.{level}.attentions.{place}"
        found[f"input_blocks.{numbers[-1] + 1}.0.op"] = f"down_blocks.{level}.downsamplers.0.conv"
    block("middle_block.0", "mid_block.resnets.0")
    block("middle_block.2", "mid_block.resnets.1")
    found["middle_block.1"] = "mid_block.attentions.0"
    for level, numbers in enumerate(stages.up):
        for place, number in enumerate(numbers):
            block(f"output_blocks.{number}.0", f"up_blocks.{level}.resnets.{place}")
            at = stages.enlarging(number)
            if at != 1:
                found[f"output_blocks.{number}.1"] = f"up_blocks.{level}.attentions.{place}"
            if at is not None:
                found[f"output_blocks.{number}.{at}.conv"] = f"up_blocks.{level}.upsamplers.0.conv"
    return found


def config(tensors: Mapping[str, Tensor], side: int, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of diffusers' network, from the shapes.

    Shapes do not tell the heads of attention: those of the published models are taken, unless settings give
    ``num_heads`` or ``num_head_channels``.

    Arguments:
        tensors: the tensors of the network.
        side: side of the latents.
        given: ``unet_config.params`` of the original settings; may be empty.

    Raises:
        ValueError: as :class:`LevelsOfBlocks`, or the network reads no text.
    """
    stages = LevelsOfBlocks(tensors)
    widths = [
        int(tensors[f"input_blocks.{numbers[0]}.0.out_layers.3.weight"].shape[0]) for numbers in stages.down
    ]
    depths = [stages.depth(f"input_blocks.{numbers[0]}.1") for numbers in stages.down]
    up = [stages.depth(f"output_blocks.{numbers[0]}.1") for numbers in stages.up][::-1]
    middle = stages.depth("middle_block.1")
    counts = {len(numbers) for numbers in stages.down} | {len(numbers) - 1 for numbers in stages.up}
    if len(counts) > 1 or depths != up or not middle:
        raise ValueError(
            f"blocks {[len(each) for each in stages.down]}, transformers {depths} down, {middle} in the middle and "
            f"{up} up are not supported; expected as many blocks in every level, the same transformers on both ways, "
            "and one in the middle"
        )
    first = next(
        f"input_blocks.{numbers[0]}.1"
        for numbers in stages.down
        if stages.depth(f"input_blocks.{numbers[0]}.1")
    )
    linear = tensors[f"{first}.proj_in.weight"].ndim == 2
    if given.get("num_head_channels", -1) != -1:
        heads: list[int] = [width // int(given["num_head_channels"]) for width in widths]
    elif given.get("num_heads", -1) != -1:
        heads = [int(given["num_heads"])] * len(widths)
    else:
        heads = [max(1, width // HEAD) for width in widths] if linear else [HEADS] * len(widths)
    layers = [depth or 1 for depth in depths]
    layers[-1] = middle if not depths[-1] else depths[-1]
    if layers[-1] != middle:
        raise ValueError(f"{middle} transformers in the middle and {depths[-1]} beside it are not supported")
    found: dict[str, Any] = {
        "sample_size": side,
        "in_channels": int(tensors["input_blocks.0.0.weight"].shape[1]),
        "out_channels": int(tensors["out.2.weight"].shape[0]),
        "block_out_channels": widths,
        "layers_per_block": counts.pop(),
        "down_block_types": ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths],
        "up_block_types": ["CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in depths[::-1]],
        "cross_attention_dim": int(tensors[f"{first}.transformer_blocks.0.attn2.to_k.weight"].shape[1]),
        "transformer_layers_per_block": layers,
        "attention_head_dim": heads,
        "use_linear_projection": linear,
        "norm_num_groups": 32,
    }
    if "label_emb.0.0.weight" in tensors:
        found |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": NUMBER_WIDTH,
            "projection_class_embeddings_input_dim": int(tensors["label_emb.0.0.weight"].shape[1]),
        }
    if "label_emb.weight" in tensors:
        found["num_class_embeds"] = int(tensors["label_emb.weight"].shape[0])
    return found
