"""T5's encoder of texts from transformers: T5EncoderModel, and the encoder of whole T5 and mT5 models."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sde_gen.interop.settings import choice, need, plausible, real, shown, whole
from sde_gen.interop.transformers import folder
from sde_gen.interop.weight_mapper import WeightMapper
from sde_gen.model.text.t5 import T5Text

DEFAULTS = {
    "vocab_size": 32128,
    "d_model": 512,
    "d_kv": 64,
    "d_ff": 2048,
    "num_layers": 6,
    "num_heads": 8,
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "layer_norm_epsilon": 1e-6,
    "feed_forward_proj": "relu",
}
"""Settings of transformers' T5Config that a file may leave out."""

LARGEST_VOCABULARY = 2**22


def load(path: Path) -> T5Text:
    """Read a folder with ``config.json`` and weights.

    Raises:
        ValueError: as :func:`~sde_gen.interop.transformers.folder.load`.
    """
    net: T5Text = folder.load(path, read)
    return net


def read(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> T5Text:
    """Convert weights.

    Source: Wolf et al., transformers 5.24, models/t5/modeling_t5.py.

    Arguments:
        tensors: the state dictionary.
        config: content of ``config.json``.

    Raises:
        ValueError: settings are missing or unsupported, or tensors do not fit; the message names them.
    """
    choice(config, "model_type", "t5", "mt5")
    settings = {**DEFAULTS, **config}
    gated, act = _units(settings)
    depth = whole(settings, "num_layers")
    plausible(tensors, depth)
    with torch.device("meta"):
        net = T5Text(
            vocabulary=whole(settings, "vocab_size", maximum=LARGEST_VOCABULARY),
            width=whole(settings, "d_model"),
            depth=depth,
            heads=whole(settings, "num_heads"),
            head=whole(settings, "d_kv"),
            hidden=whole(settings, "d_ff", maximum=2**17),
            activation=folder.activation({"dense_act_fn": act}, "dense_act_fn"),
            gated=gated,
            buckets=whole(settings, "relative_attention_num_buckets", minimum=4),
            distance=whole(settings, "relative_attention_max_distance", maximum=2**20),
            eps=real(settings, "layer_norm_epsilon"),
        )
    mapper, table, copy = WeightMapper(tensors, net), "shared.weight", "encoder.embed_tokens.weight"
    mapper.copy("table.weight", table if table in tensors else copy)
    mapper.ignore(copy, "the table of tokens once more")
    mapper.copy("bias.weight", "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight")
    units = {"up": "wi_0", "gate": "wi_1", "down": "wo"} if gated else {"up": "wi", "down": "wo"}
    for number in range(depth):
        attention, dense = (f"encoder.block.{number}.layer.{part}" for part in (0, 1))
        for ours, original in {"query": "q", "key": "k", "value": "v", "out": "o"}.items():
            mapper.copy(f"blocks.{number}.{ours}.weight", f"{attention}.SelfAttention.{original}.weight")
        for ours, original in units.items():
            mapper.copy(f"blocks.{number}.{ours}.weight", f"{dense}.DenseReluDense.{original}.weight")
        mapper.copy(f"blocks.{number}.norm_attention.scale", f"{attention}.layer_norm.weight")
        mapper.copy(f"blocks.{number}.norm_mlp.scale", f"{dense}.layer_norm.weight")
    mapper.copy("norm.scale", "encoder.final_layer_norm.weight")
    for name in tensors:
        if name.startswith("decoder.") or name == "lm_head.weight":
            mapper.ignore(name, "a part of the decoder")
    folder.filled(net, mapper)
    return net


def _units(settings: Mapping[str, Any]) -> tuple[bool, str]:
    """Return whether the units are gated, and the name of their activation, from settings such as ``gated-gelu``."""
    word = need(settings, "feed_forward_proj")
    parts = word.split("-") if isinstance(word, str) else []
    if not 1 <= len(parts) <= 2 or (len(parts) == 2 and parts[0] != "gated"):
        raise ValueError(f"feed_forward_proj={shown(word)} is not supported; expected gated-gelu, relu, ...")
    gated = len(parts) == 2
    derived = "gelu_new" if word == "gated-gelu" else parts[-1]
    return gated, settings.get("dense_act_fn") or derived
