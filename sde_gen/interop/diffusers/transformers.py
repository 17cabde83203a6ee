"""Mappings of diffusers' transformers: DiTTransformer2DModel and SD3Transformer2DModel."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sde_gen.interop.converted_model import ObjectSpec
from sde_gen.interop.patch_rows import rows_of_patches
from sde_gen.interop.settings import (
    MOST_CLASSES,
    choice,
    flag,
    listing,
    real,
    shown,
    whole,
    wholes,
)
from sde_gen.interop.weight_mapper import WeightMapper
from sde_gen.model.activation import GELU
from sde_gen.model.embedding import Sinusoids
from sde_gen.model.transformer.dit import DiT
from sde_gen.model.transformer.joint_transformer import JointTransformer
from sde_gen.model.transformer.patches import sincos

DIT_DEFAULTS: dict[str, Any] = {
    "num_attention_heads": 16,
    "attention_head_dim": 72,
    "in_channels": 4,
    "out_channels": None,
    "num_layers": 28,
    "dropout": 0.0,
    "norm_num_groups": 32,
    "attention_bias": True,
    "sample_size": 32,
    "patch_size": 2,
    "activation_fn": "gelu-approximate",
    "num_embeds_ada_norm": 1000,
    "upcast_attention": False,
    "norm_type": "ada_norm_zero",
    "norm_elementwise_affine": False,
    "norm_eps": 1e-5,
}
"""Defaults of the arguments of DiTTransformer2DModel."""

EARLIER: dict[str, Any] = {
    "caption_channels": None,
    "cross_attention_dim": None,
    "double_self_attention": False,
    "num_vector_embeds": None,
    "only_cross_attention": False,
    "use_linear_projection": False,
    "attention_type": "default",
    "interpolation_scale": None,
    "use_additional_conditions": None,
}
"""Values of the further arguments of Transformer2DModel, the class of a DiT in files before 0.30."""

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

LAYERS = {
    "norm1.linear": "modulation.project",
    "attn1.to_q": "attention.query",
    "attn1.to_k": "attention.key",
    "attn1.to_v": "attention.value",
    "attn1.to_out.0": "attention.out",
    "ff.net.0.proj": "mlp.0",
    "ff.net.2": "mlp.2",
}
"""Layers of a block of DiT: names in diffusers and here."""

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


class DiTLayout:
    """Mapping of a DiTTransformer2DModel, or of a Transformer2DModel that is a DiT.

    Arguments:
        config: arguments of the constructor by name.

    Raises:
        ValueError: a setting is missing or not supported.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        _known(config, {**DIT_DEFAULTS, **EARLIER}, "DiTTransformer2DModel")
        self.settings = settings = {**DIT_DEFAULTS, **EARLIER, **config}
        for key, expected in {**EARLIER, "norm_elementwise_affine": False}.items():
            if settings[key] != expected:
                raise ValueError(f"{key}={shown(settings[key])} is not supported; expected {expected}")
        choice(settings, "norm_type", "ada_norm_zero")
        self.heads = whole(settings, "num_attention_heads")
        self.width = _width(self.heads, settings)
        self.depth, self.patch = whole(settings, "num_layers"), whole(settings, "patch_size")
        self.classes = whole(settings, "num_embeds_ada_norm", maximum=MOST_CLASSES)
        self.channels = whole(settings, "in_channels")
        out = self.channels if settings["out_channels"] is None else whole(settings, "out_channels")
        self.outputs = _outputs(self.channels, out)
        side = whole(settings, "sample_size")
        if side % self.patch:
            raise ValueError(
                f"sample_size={side} is not supported; expected a multiple of patch_size={self.patch}"
            )
        self.shape = [self.channels, side, side]
        self.bias = flag(settings, "attention_bias")
        self.activation = choice(settings, "activation_fn", "gelu-approximate", "gelu")

    def spec(self) -> ObjectSpec:
        """Return the specification of the network."""
        return ObjectSpec(
            DiT,
            shape=self.shape,
            patch=[self.patch],
            width=self.width,
            depth=self.depth,
            heads=self.heads,
            num_classes=self.classes,
            outputs=self.outputs,
            embedding=ObjectSpec(Sinusoids, size=256, shift=1.0),
            activation=ObjectSpec(GELU) if self.activation == "gelu" else None,
            eps=real(self.settings, "norm_eps"),
            stored_positions=True,
        )

    def map_weights(self, mapper: WeightMapper) -> None:
        """Copy the tensors."""
        embedder = "transformer_blocks.0.norm1.emb"
        for target, source in (
            ("embed.0", "timestep_embedder.linear_1"),
            ("embed.2", "timestep_embedder.linear_2"),
        ):
            mapper.copy_layer(target, f"{embedder}.{source}")
        mapper.copy("classes.weight", f"{embedder}.class_embedder.embedding_table.weight")
        for index in range(self.depth):
            for source, target in LAYERS.items():
                if self.bias or not target.endswith(("query", "key", "value")):
                    mapper.copy_layer(f"blocks.{index}.{target}", f"transformer_blocks.{index}.{source}")
                else:
                    mapper.copy(
                        f"blocks.{index}.{target}.weight", f"transformer_blocks.{index}.{source}.weight"
                    )
                    mapper.state[f"blocks.{index}.{target}.bias"] = torch.zeros(self.width)
            self._ignore_copies(mapper, index)
        mapper.copy_layer("stem.0", "pos_embed.proj", _flattened)
        mapper.copy_layer("modulation.project", "proj_out_1")
        _copy_output(mapper, "proj_out_2", self.patch)
        grid = 2 * [self.shape[1] // self.patch]
        mapper.state["positions"] = columns_first(sincos(grid, self.width))
        mapper.ignore("pos_embed.pos_embed", "the places, which are computed")

    def _ignore_copies(self, mapper: WeightMapper, index: int) -> None:
        """Ignore the embeddings of a block, after checking that they are those of the first.

        Every block has a copy, and the last layer uses that of the first block.
        """
        for name in [
            name for name in mapper.tensors if name.startswith(f"transformer_blocks.{index}.norm1.emb.")
        ]:
            first = name.replace(f"blocks.{index}.", "blocks.0.", 1)
            if index and first in mapper.tensors:
                mapper.ignore(name, "a copy of that of the first block")
                if not torch.equal(mapper.tensors[name], mapper.tensors[first]):
                    mapper.problems.append(f"{name} is not that of the first block, which is not supported")


class SD3Layout:
    """Mapping of a SD3Transformer2DModel.

    Arguments:
        config: arguments of the constructor by name.

    Raises:
        ValueError: a setting is missing or not supported.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        _known(config, SD3_DEFAULTS, "SD3Transformer2DModel")
        self.settings = settings = {**SD3_DEFAULTS, **config}
        self.heads = whole(settings, "num_attention_heads")
        self.width = _width(self.heads, settings)
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
        self.outputs = _outputs(self.channels, out)
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
        mapper.copy_layer("stem.0", "pos_embed.proj", _flattened)
        _copy_swapped(mapper, "modulation.project", "norm_out.linear")
        _copy_output(mapper, "proj_out", self.patch)
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


def columns_first(table: Tensor) -> Tensor:
    """Exchange the halves of a table of places: the code of MAE and DiT embeds the column first."""
    first, second = table.chunk(2, dim=1)
    return torch.cat([second, first], dim=1)


def _copy_output(mapper: WeightMapper, source: str, patch: int) -> None:
    for kind in ("weight", "bias"):
        mapper.copy(f"out.{kind}", f"{source}.{kind}", rows_of_patches(patch))


def _copy_swapped(mapper: WeightMapper, target: str, source: str) -> None:
    """Copy a layer of scale and shift as one of shift and scale."""
    for kind in ("weight", "bias"):
        mapper.copy(f"{target}.{kind}", f"{source}.{kind}", lambda rows: torch.cat(rows.chunk(2)[::-1]))


def _flattened(weight: Tensor) -> Tensor:
    """Return the weight of a convolution of patches as that of a dense layer."""
    return weight.flatten(1)


def _width(heads: int, settings: Mapping[str, Any]) -> int:
    width = heads * whole(settings, "attention_head_dim")
    if width % 4:
        raise ValueError(
            f"num_attention_heads={heads}, attention_head_dim={settings['attention_head_dim']}: expected as product "
            "a multiple of 4"
        )
    return width


def _outputs(channels: int, out: int) -> int:
    outputs, rest = divmod(out, channels)
    if rest or outputs not in (1, 2):
        raise ValueError(f"out_channels={out}: expected {channels}, or {2 * channels} with a variance")
    return outputs


def _known(config: Mapping[str, Any], known: Mapping[str, Any], name: str) -> None:
    if unknown := [key for key in config if key not in known and not key.startswith("_")]:
        raise ValueError(f"{name} has no setting {listing(unknown)}")
