"""Mapping of diffusers' SD3Transformer2DModel: Stable Diffusion 3 and 3.5."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sde_gen.interop.converted_model import ObjectSpec
from sde_gen.interop.diffusers.patch_transformer import (
    as_dense,
    copy_output,
    outputs_per_channel,
    token_width,
)
from sde_gen.interop.settings import (
    choice,
    reject_unknown,
    shown,
    whole,
    wholes,
)
from sde_gen.interop.weight_mapper import WeightMapper
from sde_gen.model.embedding import Sinusoids
from sde_gen.model.transformer.joint_transformer import JointTransformer

SD3_DEFAULTS: dict[str, Any] = {
    "sample_size": 128,
    "patch_size": 2,
    "in_channels": 16,
    "num_layers": 18,
    "attention_head_dim": 64,
    "num_attention_heads": 18,
    "joint_attention_dim": 4096,
    "caption_projection_dim": 1152,
    "pooled_projection_dim": 2048,
    "out_channels": 16,
    "pos_embed_max_size": 96,
    "dual_attention_layers": [],
    "qk_norm": None,
}
"""Defaults of the arguments of SD3Transformer2DModel."""

JOINT = {
    "norm1.linear": "sample.modulation.project",
    "attn.to_q": "sample.attention.query",
    "attn.to_k": "sample.attention.key",
    "attn.to_v": "sample.attention.value",
    "attn.to_out.0": "sample.attention.out",
    "ff.net.0.proj": "sample.mlp.0",
    "ff.net.2": "sample.mlp.2",
    "attn2.to_q": "sample.second.query",
    "attn2.to_k": "sample.second.key",
    "attn2.to_v": "sample.second.value",
    "attn2.to_out.0": "sample.second.out",
    "norm1_context.linear": "text.modulation.project",
    "attn.add_q_proj": "text.attention.query",
    "attn.add_k_proj": "text.attention.key",
    "attn.add_v_proj": "text.attention.value",
    "attn.to_add_out": "text.attention.out",
    "ff_context.net.0.proj": "text.mlp.0",
    "ff_context.net.2": "text.mlp.2",
}
"""Layers of a joint block: names in diffusers and here; some blocks lack some."""

JOINT_NORMS = {
    "attn.norm_q": "sample.attention.norm_query",
    "attn.norm_k": "sample.attention.norm_key",
    "attn2.norm_q": "sample.second.norm_query",
    "attn2.norm_k": "sample.second.norm_key",
    "attn.norm_added_q": "text.attention.norm_query",
    "attn.norm_added_k": "text.attention.norm_key",
}
"""Normalizations of queries and keys: names in diffusers and here."""


class SD3Layout:
    """Mapping of a SD3Transformer2DModel.

    Arguments:
        config: arguments of the constructor by name.

    Raises:
        ValueError: a setting is missing or not supported.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        reject_unknown(config, SD3_DEFAULTS, "SD3Transformer2DModel")
        self.settings = settings = {**SD3_DEFAULTS, **config}
        self.heads = whole(settings, "num_attention_heads")
        self.width = token_width(self.heads, settings)
        self.depth, self.patch = whole(settings, "num_layers"), whole(settings, "patch_size")
        if whole(settings, "caption_projection_dim") != self.width:
            raise ValueError(
                f"caption_projection_dim={settings['caption_projection_dim']} is not supported; expected {self.width}, "
                "heads times their features"
            )
        self.token, self.vector = (
            whole(settings, "joint_attention_dim"),
            whole(settings, "pooled_projection_dim"),
        )
        self.channels = whole(settings, "in_channels")
        out = self.channels if settings["out_channels"] is None else whole(settings, "out_channels")
        self.outputs = outputs_per_channel(self.channels, out)
        sides = (
            wholes(settings, "sample_size")
            if isinstance(settings["sample_size"], list | tuple)
            else 2 * [whole(settings, "sample_size")]
        )
        self.table = whole(settings, "pos_embed_max_size")
        if len(sides) != 2 or any(side % self.patch or side // self.patch > self.table for side in sides):
            raise ValueError(
                f"sample_size={shown(settings['sample_size'])} is not supported; expected a multiple of "
                f"patch_size={self.patch}, up to {self.patch * self.table}"
            )
        self.shape = [self.channels, *sides]
        self.second = wholes(settings, "dual_attention_layers", minimum=0, maximum=self.depth - 1)
        self.qk_norm = settings["qk_norm"] is not None
        if self.qk_norm:
            choice(settings, "qk_norm", "rms_norm")

    def spec(self) -> ObjectSpec:
        """Return the specification of the network."""
        return ObjectSpec(
            JointTransformer,
            shape=self.shape,
            text=self.token,
            vector=self.vector,
            patch=[self.patch],
            width=self.width,
            depth=self.depth,
            heads=self.heads,
            qk_norm=self.qk_norm,
            second=self.second,
            outputs=self.outputs,
            embedding=ObjectSpec(Sinusoids, size=256),
            stored_positions=True,
        )

    def map_weights(self, mapper: WeightMapper) -> None:
        """Copy the tensors."""
        for target, source in (
            ("embed.0", "time_text_embed.timestep_embedder.linear_1"),
            ("embed.2", "time_text_embed.timestep_embedder.linear_2"),
            ("vector_in.0", "time_text_embed.text_embedder.linear_1"),
            ("vector_in.2", "time_text_embed.text_embedder.linear_2"),
            ("text_in", "context_embedder"),
        ):
            mapper.copy_layer(target, source)
        for index in range(self.depth):
            self._map_block(mapper, f"joint.{index}", f"transformer_blocks.{index}")
        mapper.copy_layer("stem.0", "pos_embed.proj", as_dense)
        _copy_swapped(mapper, "modulation.project", "norm_out.linear")
        copy_output(mapper, "proj_out", self.patch)
        mapper.copy("positions", "pos_embed.pos_embed", self._cropped)

    def _map_block(self, mapper: WeightMapper, target: str, source: str) -> None:
        for name, part in JOINT.items():
            if f"{target}.{part}.weight" in mapper.needed:
                mapper.copy_layer(f"{target}.{part}", f"{source}.{name}")
        for name, part in JOINT_NORMS.items():
            if f"{target}.{part}.scale" in mapper.needed:
                mapper.copy(f"{target}.{part}.scale", f"{source}.{name}.weight")
        if f"{target}.context.key.weight" not in mapper.needed:
            return
        for name, part in (("attn.add_k_proj", "key"), ("attn.add_v_proj", "value")):
            mapper.copy_layer(f"{target}.context.{part}", f"{source}.{name}")
        _copy_swapped(mapper, f"{target}.context.modulation.project", f"{source}.norm1_context.linear")
        if self.qk_norm:
            mapper.copy(f"{target}.context.norm_key.scale", f"{source}.attn.norm_added_k.weight")
        for name in ("attn.add_q_proj.weight", "attn.add_q_proj.bias", "attn.norm_added_q.weight"):
            mapper.ignore(
                f"{source}.{name}", "queries of the text in the last block, whose results are dropped"
            )

    def _cropped(self, table: Tensor) -> Tensor:
        """Return the middle of the table of places (1, M * M, width)."""
        height, width = (side // self.patch for side in self.shape[1:])
        top, left = (self.table - height) // 2, (self.table - width) // 2
        square = torch.unflatten(table[0], 0, (self.table, self.table))
        return torch.flatten(square[top : top + height, left : left + width], 0, 1)


def _copy_swapped(mapper: WeightMapper, target: str, source: str) -> None:
    """Copy a layer of scale and shift as one of shift and scale."""
    for kind in ("weight", "bias"):
        mapper.copy(f"{target}.{kind}", f"{source}.{kind}", lambda rows: torch.cat(rows.chunk(2)[::-1]))
