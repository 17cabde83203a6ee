"""Conversion of a network's configuration to the arguments of diffusers' UNet2DModel."""

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

from sde_gen.interop.converted_model import public_path
from sde_gen.interop.diffusers.unet2d_skip import UNet2DSkipLayout
from sde_gen.interop.settings import shown
from sde_gen.model.unet.base import UNet

Config = Mapping[str, Any]


def filled(net: type, model: Config) -> dict[str, Any]:
    """Complete the keywords of a network's constructor by their defaults."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(net).parameters.items()}
    return {
        **{
            name: _described(value)
            for name, value in defaults.items()
            if value is not inspect.Parameter.empty
        },
        **model,
    }


def _described(value: Any) -> Any:
    """Convert a default to its configuration."""
    if dataclasses.is_dataclass(value):
        return {"_target_": public_path(type(value)), **vars(value)}
    return value


def kind(node: Any) -> str | None:
    """Return the class name of a configuration."""
    return None if not node else str(node["_target_"]).rpartition(".")[2]


def plain(config: Config, shape: tuple[int, ...], classes: int) -> dict[str, Any]:
    """Convert the configuration of DDPM's U-Net.

    Raises:
        ValueError: diffusers does not support a setting.
    """
    model = config["model"]
    if kind(model["change"]) != "ConvResample":
        raise ValueError(f"change={kind(model['change'])}: expected ConvResample")
    return {
        **_common(model, shape, classes),
        **_label(model, "Positional"),
        **_norms(model),
        **_blocks(model, "", ""),
        "downsample_padding": int(kind(model["resampler"]) == "CenteredBox"),
        "attention_head_dim": model["head_channels"],
    }


def adm(config: Config, shape: tuple[int, ...], classes: int) -> dict[str, Any]:
    """Convert the configuration of ADM.

    Raises:
        ValueError: diffusers does not support a setting.
    """
    model = config["model"]
    pairs = len(model["multipliers"]) - 1
    down, up = (
        [kind(node) for node in (pairs * [model["change"]] if model[key] is None else model[key])]
        for key in ("down_changes", "up_changes")
    )
    for change in [kind(model["change"]), *down, *up]:
        if change not in (None, "ConvResample"):
            raise ValueError(f"change={change}: expected null or ConvResample")
    if kind(model["resampler"]) not in (None, "CenteredBox", "Box"):
        raise ValueError(f"resampler={kind(model['resampler'])}: expected null, CenteredBox or Box")
    attention = set(model["attention_levels"])
    return {
        **_common(model, shape, classes),
        **_label(model, "CosinePositional"),
        **_norms(model),
        "down_block_types": [
            "AttnDownBlock2D" if level in attention else _block(_word(change, "Down"), "Down")
            for level, change in enumerate([*down, kind(model["change"])])
        ],
        "up_block_types": [
            "AttnUpBlock2D" if level in attention else _block(_word(change, "Up"), "Up")
            for level, change in reversed(list(enumerate([kind(model["change"]), *up])))
        ],
        "downsample_type": _attended("down_changes", down, {*attention} - {pairs}),
        "upsample_type": _attended("up_changes", up, {level - 1 for level in attention} - {-1}),
        "downsample_padding": int(kind(model["resampler"]) != "Box"),
        "attention_head_dim": _head(model),
        "resnet_time_scale_shift": "scale_shift" if model["modulated"] else "default",
    }


def skip(config: Config, shape: tuple[int, ...], classes: int) -> dict[str, Any]:
    """Convert the configuration of NCSN++ with progressive inputs and outputs, as imported from diffusers.

    Raises:
        ValueError: diffusers does not support a setting.
    """
    model = config["model"]
    unet = {
        **_common({**model, "outputs": 1, "middle_attention": True}, shape, classes),
        **_blocks(model, "Skip", "Skip"),
        "time_embedding_type": "fourier",
        "center_input_sample": config["parametrization"]["label"]["unit"] == 2.0,
        "mid_block_scale_factor": 2**0.5,
        "norm_num_groups": None,
        "norm_eps": 1e-6,
        "attention_head_dim": None,
    }
    source = filled(UNet, UNet2DSkipLayout(unet).spec().config())
    for key in {**source, **model}:
        if source.get(key) != model.get(key) and key != "embedding":
            raise ValueError(
                f"{key}={shown(model.get(key))} of a network with skip blocks: diffusers has {shown(source.get(key))}"
            )
    if kind(model["embedding"]) != "Fourier":
        raise ValueError(
            f"embedding={kind(model['embedding'])} of a network with skip blocks: expected Fourier"
        )
    return unet


def _common(model: Config, shape: tuple[int, ...], classes: int) -> dict[str, Any]:
    return {
        "_class_name": "UNet2DModel",
        "sample_size": shape[1] if shape[1] == shape[2] else list(shape[1:]),
        "in_channels": shape[0],
        "out_channels": shape[0] * int(model["outputs"]),
        "center_input_sample": False,
        "block_out_channels": [int(model["width"] * m) for m in model["multipliers"]],
        "layers_per_block": int(model["blocks"]),
        "mid_block_scale_factor": 1,
        "dropout": float(model["dropout"]),
        "act_fn": "silu",
        "add_attention": bool(model["middle_attention"]),
        "num_class_embeds": classes or None,
    }


def _blocks(model: Config, down: str, up: str) -> dict[str, Any]:
    """Return the block types; ``down`` and ``up`` are prefixes of those without attention."""
    attention, levels = set(model["attention_levels"]), range(len(model["multipliers"]))
    joined = "Skip" if down == "Skip" else ""
    return {
        "down_block_types": [
            f"Attn{joined}DownBlock2D" if level in attention else _block(down, "Down") for level in levels
        ],
        "up_block_types": [
            f"Attn{joined}UpBlock2D" if level in attention else _block(up, "Up") for level in reversed(levels)
        ],
    }


def _word(change: str | None, direction: str) -> str:
    """Return the name prefix of a block without attention for a change of resolution."""
    return f"Resnet{direction}sample" if change is None else ""


def _attended(key: str, changes: list[str | None], attended: set[int]) -> str:
    """Return the type of resampling at levels with attention, which must be the same at all of them.

    Raises:
        ValueError: the levels differ.
    """
    kinds = {changes[pair] for pair in attended} or set(changes)
    if len(kinds) > 1 and attended:
        raise ValueError(f"{key}: diffusers changes the resolution in one way at all levels with attention")
    return "resnet" if None in kinds else "conv"


def _block(word: str, direction: str) -> str:
    return f"{word}Block2D" if word.startswith("Resnet") else f"{word}{direction}Block2D"


def _label(model: Config, usual: str) -> dict[str, Any]:
    """Return the settings of the embedding of the noise label."""
    features = kind(model["embedding"]) or usual
    if features == "LearnedEmbedding":
        return {"time_embedding_type": "learned", "num_train_timesteps": int(model["embedding"]["steps"])}
    if features not in ("Positional", "CosinePositional"):
        raise ValueError(f"embedding={features}: expected Positional, CosinePositional or LearnedEmbedding")
    to_the_last = features == "Positional"
    return {
        "time_embedding_type": "positional",
        "freq_shift": int(to_the_last),
        "flip_sin_to_cos": not to_the_last,
    }


def _norms(model: Config) -> dict[str, Any]:
    """Return the settings of group normalization."""
    norms, rule = model["norms"], kind(model["norms"])
    if rule == "GCDGroups" and all(int(model["width"] * m) % 32 == 0 for m in model["multipliers"]):
        groups, eps = 32, 1e-5
    elif rule in ("FixedGroups", "FixedGroupsExceptMiddle"):
        groups, eps = int(norms["groups"]), float(norms["eps"])
    else:
        raise ValueError(
            f"norms={rule}: expected FixedGroups, or GCDGroups of channels that are multiples of 32: diffusers has "
            "the same number of groups everywhere"
        )
    middle = norms["middle_groups"] if rule == "FixedGroupsExceptMiddle" else groups
    if middle is None and not model.get("modulated", False) and model["middle_attention"]:
        raise ValueError(
            "middle_groups=None: diffusers leaves that out only where the embedding scales and shifts"
        )
    return {"norm_num_groups": groups, "norm_eps": eps, "attn_norm_num_groups": middle}


def _head(model: Config) -> int | None:
    """Return the channels per attention head, the same at every level; None for a single head."""
    levels = {
        *model["attention_levels"],
        *([len(model["multipliers"]) - 1] if model["middle_attention"] else []),
    }
    channels = {int(model["width"] * model["multipliers"][level]) for level in levels}
    if model.get("up_heads") not in (None, model["heads"]) or model.get("wide_heads"):
        raise ValueError(
            "up_heads, wide_heads: diffusers has heads of the same number of channels everywhere"
        )
    if model["heads"] == 1 or (model["heads"] is None and all(c <= model["head_channels"] for c in channels)):
        return None
    sizes = {
        int(model["head_channels"]) if model["heads"] is None else c // int(model["heads"]) for c in channels
    }
    if len(sizes) > 1 or any(c % size for c in channels for size in sizes):
        raise ValueError(
            f"heads={model['heads']}, head_channels={model['head_channels']} of {sorted(channels)} channels: "
            "diffusers has heads of the same number of channels at every level"
        )
    return sizes.pop() if sizes else None
