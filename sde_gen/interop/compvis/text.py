"""Encoders of texts in the single-file layout: CLIP of transformers, and OpenCLIP under its own names."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sde_gen.interop.transformers.folder import POSITIONS

HEAD = 64
"""Channels of a head of attention of CLIP."""

LAYERS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
"""Layers of a block: names in OpenCLIP and in transformers."""

OUTER = {
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
}
"""Tensors outside the blocks."""

IGNORED = ("logit_scale", "attn_mask")
"""Tensors of OpenCLIP that embed nothing."""


def of_transformers(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return tensors and settings of an encoder that has the names of transformers already."""
    kept = {name: value for name, value in tensors.items() if not name.endswith(POSITIONS)}
    return kept, _config(kept, "quick_gelu")


def of_open_clip(
    tensors: Mapping[str, Tensor], *, penultimate: bool
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return tensors and settings of an encoder of OpenCLIP.

    Arguments:
        tensors: its tensors.
        penultimate: whether the last block is left out, as Stable Diffusion 2 does before the last normalization.

    Raises:
        ValueError: a tensor is unknown.
    """
    blocks = {
        int(match[1]) for name in tensors if (match := re.match(r"transformer\.resblocks\.(\d{1,4})\.", name))
    }
    depth = len(blocks) - penultimate
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        match = re.match(r"transformer\.resblocks\.(\d{1,4})\.(.+)", name)
        if match and int(match[1]) >= depth:
            continue
        if match:
            found |= _block(f"text_model.encoder.layers.{int(match[1])}", match[2], value)
        elif name in OUTER:
            found[OUTER[name]] = value
        elif name == "text_projection":
            if not penultimate:  # which needs no features of the whole text
                found["text_projection.weight"] = value.T.contiguous()
        elif name not in IGNORED:
            raise ValueError(f"the encoder of texts has the tensor {name[:80]!r}, which is not known")
    return found, _config(found, "gelu")


def _block(prefix: str, name: str, value: Tensor) -> dict[str, Tensor]:
    layer, _, kind = name.rpartition(".")
    if name in ("attn.in_proj_weight", "attn.in_proj_bias"):
        kind = name.rpartition("_")[2]
        parts = value.chunk(3)
        return {
            f"{prefix}.self_attn.{letter}_proj.{kind}": part.contiguous()
            for letter, part in zip("qkv", parts, strict=True)
        }
    if layer not in LAYERS:
        raise ValueError(f"the encoder of texts has the layer {name[:80]!r}, which is not known")
    return {f"{prefix}.{LAYERS[layer]}.{kind}": value}


def _config(tensors: Mapping[str, Tensor], activation: str) -> dict[str, Any]:
    prefix = "text_model."
    table = tensors.get(f"{prefix}embeddings.token_embedding.weight")
    first = tensors.get(f"{prefix}encoder.layers.0.mlp.fc1.weight")
    if table is None or first is None:
        raise ValueError("the file has no encoder of texts with token_embedding and blocks")
    pattern = r"text_model\.encoder\.layers\.(\d{1,4})\."
    width, projection = int(table.shape[1]), tensors.get("text_projection.weight")
    return {
        "model_type": "clip_text_model",
        "architectures": ["CLIPTextModel" if projection is None else "CLIPTextModelWithProjection"],
        "vocab_size": int(table.shape[0]),
        "hidden_size": width,
        "intermediate_size": int(first.shape[0]),
        "num_hidden_layers": len({match[1] for name in tensors if (match := re.match(pattern, name))}),
        "num_attention_heads": max(1, width // HEAD),
        "max_position_embeddings": int(tensors[f"{prefix}embeddings.position_embedding.weight"].shape[0]),
        "hidden_act": activation,
        "layer_norm_eps": 1e-5,
        "eos_token_id": 2,
        "projection_dim": width if projection is None else int(projection.shape[0]),
    }
