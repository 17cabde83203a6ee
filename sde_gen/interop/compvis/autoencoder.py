"""The autoencoder of CompVis' latent diffusion: names and settings of diffusers' AutoencoderKL."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sde_gen.interop.settings import MOST_LEVELS

MIDDLE = {"block_1": "resnets.0", "block_2": "resnets.1", "attn_1": "attentions.0"}
"""Parts of the middle: names in CompVis' code and in diffusers."""

ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
"""Layers of attention."""


def levels(tensors: Mapping[str, Tensor]) -> int:
    """Return the number of levels.

    Raises:
        ValueError: there is no such autoencoder.
    """
    found = {int(match[1]) for name in tensors if (match := re.match(r"encoder\.down\.(\d{1,3})\.", name))}
    if not found or len(found) > MOST_LEVELS or found != set(range(len(found))):
        raise ValueError("the file has no autoencoder (first_stage_model.encoder.down.0)")
    return len(found)


def names(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the prefixes of names in CompVis' code and in diffusers."""
    count = levels(tensors)
    found = {"quant_conv": "quant_conv", "post_quant_conv": "post_quant_conv"}
    for coder, side, way, change in (
        ("encoder", "down", "downsample", "downsamplers"),
        ("decoder", "up", "upsample", "upsamplers"),
    ):
        found |= {
            f"{coder}.conv_in": f"{coder}.conv_in",
            f"{coder}.norm_out": f"{coder}.conv_norm_out",
            f"{coder}.conv_out": f"{coder}.conv_out",
        }
        for name, part in MIDDLE.items():
            inner = ATTENTION if name == "attn_1" else BLOCK
            for source, target in inner.items():
                found[f"{coder}.mid.{name}.{source}"] = f"{coder}.mid_block.{part}.{target}"
        for level in range(count):
            place = level if coder == "encoder" else count - 1 - level
            target = f"{coder}.{side}_blocks.{place}"
            found[f"{coder}.{side}.{level}.{way}.conv"] = f"{target}.{change}.0.conv"
            for index in range(_blocks(tensors, f"{coder}.{side}.{level}")):
                for source, part in BLOCK.items():
                    found[f"{coder}.{side}.{level}.block.{index}.{source}"] = (
                        f"{target}.resnets.{index}.{part}"
                    )
    return found


BLOCK = {
    "norm1": "norm1",
    "conv1": "conv1",
    "norm2": "norm2",
    "conv2": "conv2",
    "nin_shortcut": "conv_shortcut",
}
"""Layers of a residual block."""


def _blocks(tensors: Mapping[str, Tensor], prefix: str) -> int:
    pattern = rf"{re.escape(prefix)}\.block\.(\d{{1,3}})\."
    return len({match[1] for name in tensors if (match := re.match(pattern, name))})


def config(tensors: Mapping[str, Tensor], scaling: float) -> dict[str, Any]:
    """Return the settings of diffusers' autoencoder, from the shapes.

    Arguments:
        tensors: the tensors of the autoencoder.
        scaling: factor of the latents, which no shape tells.
    """
    count = levels(tensors)
    return {
        "in_channels": int(tensors["encoder.conv_in.weight"].shape[1]),
        "out_channels": int(tensors["decoder.conv_out.weight"].shape[0]),
        "block_out_channels": [
            int(tensors[f"encoder.down.{level}.block.0.conv2.weight"].shape[0]) for level in range(count)
        ],
        "down_block_types": ["DownEncoderBlock2D"] * count,
        "up_block_types": ["UpDecoderBlock2D"] * count,
        "layers_per_block": _blocks(tensors, "encoder.down.0"),
        "latent_channels": int(tensors["decoder.conv_in.weight"].shape[1]),
        "scaling_factor": scaling,
        "sample_size": 512,
        "norm_num_groups": 32,
    }
