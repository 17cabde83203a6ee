"""Mapping of diffusers' DiTTransformer2DModel."""

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
    MOST_CLASSES,
    choice,
    flag,
    real,
    reject_unknown,
    shown,
    whole,
)
from sde_gen.interop.weight_mapper import WeightMapper
from sde_gen.model.activation import GELU
from sde_gen.model.embedding import Sinusoids
from sde_gen.model.transformer.dit import DiT
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


class DiTLayout:
    """Mapping of a DiTTransformer2DModel, or of a Transformer2DModel that is a DiT.

    Arguments:
        config: arguments of the constructor by name.

    Raises:
        ValueError: a setting is missing or not supported.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        reject_unknown(config, {**DIT_DEFAULTS, **EARLIER}, "DiTTransformer2DModel")
        self.settings = settings = {**DIT_DEFAULTS, **EARLIER, **config}
        for key, expected in {**EARLIER, "norm_elementwise_affine": False}.items():
            if settings[key] != expected:
                raise ValueError(f"{key}={shown(settings[key])} is not supported; expected {expected}")
        choice(settings, "norm_type", "ada_norm_zero")
        self.heads = whole(settings, "num_attention_heads")
        self.width = token_width(self.heads, settings)
        self.depth, self.patch = whole(settings, "num_layers"), whole(settings, "patch_size")
        self.classes = whole(settings, "num_embeds_ada_norm", maximum=MOST_CLASSES)
        self.channels = whole(settings, "in_channels")
        out = self.channels if settings["out_channels"] is None else whole(settings, "out_channels")
        self.outputs = outputs_per_channel(self.channels, out)
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
        mapper.copy_layer("stem.0", "pos_embed.proj", as_dense)
        mapper.copy_layer("modulation.project", "proj_out_1")
        copy_output(mapper, "proj_out_2", self.patch)
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


def columns_first(table: Tensor) -> Tensor:
    """Exchange the halves of a table of places: the code of MAE and DiT embeds the column first."""
    first, second = table.chunk(2, dim=1)
    return torch.cat([second, first], dim=1)
