"""CLIP's encoder of texts from transformers: CLIPTextModel, CLIPTextModelWithProjection and the half of CLIPModel."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sde_gen.interop.settings import choice, plausible, real, section, whole
from sde_gen.interop.transformers import folder
from sde_gen.interop.weight_mapper import WeightMapper
from sde_gen.model.text.clip import CLIPText

DEFAULTS = {
    "vocab_size": 49408,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "projection_dim": 512,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "eos_token_id": 49407,
}
"""Settings of transformers' CLIPTextConfig that a file may leave out."""

OLD_END = 2
"""Token of the end in settings written before 2023, which is none: the text is pooled at the largest token."""

LARGEST_VOCABULARY = 2**22
LAYERS = {
    "norm_attention": "layer_norm1",
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "out": "self_attn.out_proj",
    "norm_mlp": "layer_norm2",
    "up": "mlp.fc1",
    "down": "mlp.fc2",
}


def load(path: Path) -> CLIPText:
    """Read a folder with ``config.json`` and weights.

    Raises:
        ValueError: as :func:`~sde_gen.interop.transformers.folder.load`.
    """
    net: CLIPText = folder.load(path, read)
    return net


def read(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> CLIPText:
    """Convert weights.

    Tensors have the prefix ``text_model.`` in all published files and in those of CLIPTextModelWithProjection, and none
    in those of CLIPTextModel by transformers 5.

    Source: Wolf et al., transformers 5.24, models/clip/modeling_clip.py.

    Arguments:
        tensors: the state dictionary.
        config: content of ``config.json``.

    Raises:
        ValueError: settings are missing or unsupported, or tensors do not fit; the message names them.
    """
    choice(config, "model_type", "clip", "clip_text_model")
    whole_model = "text_config" in config
    above = {"projection_dim": config["projection_dim"]} if "projection_dim" in config else {}
    settings = {**DEFAULTS, **(section(config, "text_config") if whole_model else config), **above}
    projected, end = (
        "text_projection.weight" in tensors,
        whole(settings, "eos_token_id", minimum=0, maximum=LARGEST_VOCABULARY),
    )
    depth = whole(settings, "num_hidden_layers")
    plausible(tensors, depth)
    with torch.device("meta"):
        net = CLIPText(
            vocabulary=whole(settings, "vocab_size", maximum=LARGEST_VOCABULARY),
            length=whole(settings, "max_position_embeddings"),
            width=whole(settings, "hidden_size"),
            depth=depth,
            heads=whole(settings, "num_attention_heads"),
            hidden=whole(settings, "intermediate_size", maximum=2**16),
            activation=folder.activation(settings, "hidden_act"),
            eps=real(settings, "layer_norm_eps"),
            projection=whole(settings, "projection_dim") if projected else None,
            end=None if end == OLD_END else end,
        )
    prefix = "text_model." if any(name.startswith("text_model.") for name in tensors) else ""
    mapper = WeightMapper(tensors, net)
    mapper.copy("table.weight", f"{prefix}embeddings.token_embedding.weight")
    mapper.copy("positions", f"{prefix}embeddings.position_embedding.weight")
    for number in range(depth):
        for ours, original in LAYERS.items():
            mapper.copy_layer(f"blocks.{number}.{ours}", f"{prefix}encoder.layers.{number}.{original}")
    mapper.copy_layer("norm", f"{prefix}final_layer_norm")
    if projected:
        mapper.copy("project.weight", "text_projection.weight")
    for name in tensors if whole_model else ():
        if name.startswith("vision_model.") or name in ("visual_projection.weight", "logit_scale"):
            mapper.ignore(name, "a part of the encoder of images")
    folder.filled(net, mapper)
    return net
