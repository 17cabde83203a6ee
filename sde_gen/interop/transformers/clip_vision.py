"""CLIP's encoder of images from transformers: CLIPVisionModelWithProjection and the half of CLIPModel."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sde_gen.interop.settings import choice, plausible, real, section, whole
from sde_gen.interop.transformers import folder
from sde_gen.interop.transformers.clip import LAYERS
from sde_gen.interop.weight_mapper import WeightMapper
from sde_gen.model.transformer.clip_vision import CLIPVision

DEFAULTS = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "projection_dim": 512,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 32,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
"""Settings of transformers' CLIPVisionConfig that a file may leave out."""


def load(path: Path) -> CLIPVision:
    """Read a folder with ``config.json`` and weights.

    Raises:
        ValueError: as :func:`~sde_gen.interop.transformers.folder.load`.
    """
    net: CLIPVision = folder.load(path, read)
    return net


def read(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> CLIPVision:
    """Convert weights.

    Source: Wolf et al., transformers 5.24, models/clip/modeling_clip.py.

    Arguments:
        tensors: the state dictionary.
        config: content of ``config.json``.

    Raises:
        ValueError: settings are missing or unsupported, or tensors do not fit; the message names them.
    """
    choice(config, "model_type", "clip", "clip_vision_model")
    whole_model = "vision_config" in config
    above = {"projection_dim": config["projection_dim"]} if "projection_dim" in config else {}
    settings = {**DEFAULTS, **(section(config, "vision_config") if whole_model else config), **above}
    depth = whole(settings, "num_hidden_layers")
    plausible(tensors, depth)
    with torch.device("meta"):
        net = CLIPVision(
            channels=whole(settings, "num_channels"),
            side=whole(settings, "image_size"),
            patch=whole(settings, "patch_size"),
            width=whole(settings, "hidden_size"),
            depth=depth,
            heads=whole(settings, "num_attention_heads"),
            hidden=whole(settings, "intermediate_size", maximum=2**16),
            activation=folder.activation(settings, "hidden_act"),
            projection=whole(settings, "projection_dim"),
            eps=real(settings, "layer_norm_eps"),
        )
    prefix, mapper = "vision_model.", WeightMapper(tensors, net)
    mapper.copy("patches.weight", f"{prefix}embeddings.patch_embedding.weight")
    mapper.copy("first", f"{prefix}embeddings.class_embedding")
    mapper.copy("positions", f"{prefix}embeddings.position_embedding.weight")
    mapper.copy_layer("norm_in", f"{prefix}pre_layrnorm")
    for number in range(depth):
        for ours, original in LAYERS.items():
            mapper.copy_layer(f"blocks.{number}.{ours}", f"{prefix}encoder.layers.{number}.{original}")
    mapper.copy_layer("norm", f"{prefix}post_layernorm")
    mapper.copy("project.weight", "visual_projection.weight")
    for name in tensors if whole_model else ():
        if name.startswith("text_model.") or name in ("text_projection.weight", "logit_scale"):
            mapper.ignore(name, "a part of the encoder of texts")
    folder.filled(net, mapper)
    return net
