"""Mapping of diffusers' PriorTransformer: unCLIP and Kandinsky."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sde_gen.data.codec.standardized import Standardized
from sde_gen.data.conditioning.given import GivenTensors
from sde_gen.interop.converted_model import ConvertedModel, ObjectSpec
from sde_gen.interop.diffusers import schedulers
from sde_gen.interop.diffusers.condition_settings import activation
from sde_gen.interop.settings import choice, plausible, real, reject_unknown, shown, whole
from sde_gen.interop.weight_mapper import WeightMapper
from sde_gen.model.transformer.prior_transformer import PriorTransformer

PRIOR_DEFAULTS: dict[str, Any] = {
    "num_attention_heads": 32,
    "attention_head_dim": 64,
    "num_layers": 20,
    "embedding_dim": 768,
    "num_embeddings": 77,
    "additional_embeddings": 4,
    "dropout": 0.0,
    "time_embed_act_fn": "silu",
    "norm_in_type": None,
    "embedding_proj_norm_type": None,
    "encoder_hid_proj_type": "linear",
    "added_emb_type": "prd",
    "time_embed_dim": None,
    "embedding_proj_dim": None,
    "clip_embed_dim": None,
}
"""Defaults of the arguments of PriorTransformer."""

LAYERS = {
    "norm1": "norm_attention",
    "attn1.to_q": "query",
    "attn1.to_k": "key",
    "attn1.to_v": "value",
    "attn1.to_out.0": "out",
    "norm3": "norm_mlp",
    "ff.net.0.proj": "up",
    "ff.net.2": "down",
}
"""Layers of a block: names in diffusers and here."""


def read(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any], scheduler: Mapping[str, Any]
) -> ConvertedModel:
    """Convert a ``PriorTransformer`` and its scheduler; mean and deviation of the embeddings are those of the codec.

    Source: von Platen et al., diffusers 0.42, models/transformers/prior_transformer.py.

    Arguments:
        tensors: the state dictionary.
        config: the arguments of ``PriorTransformer`` by name: its ``config.json``.
        scheduler: those of the scheduler, with its ``_class_name``.

    Raises:
        ValueError: settings are missing or unsupported, or tensors do not fit; the message names them.
    """
    layout = PriorLayout(config)
    plausible(tensors, layout.depth)
    conventions = schedulers.conventions_of(scheduler, outputs=1, fourier=False, unit=1.0)
    with torch.device("meta"):
        mapper = WeightMapper(tensors, layout.spec().make())
    layout.map_weights(mapper)
    state = mapper.finish()
    mean, std = (tensors[f"clip_{name}"].flatten().double().tolist() for name in ("mean", "std"))
    if len(mean) != layout.size or len(std) != layout.size or not min(std) > 0:
        raise ValueError(
            f"clip_mean and clip_std have {len(mean)} and {len(std)} numbers, from {min(std, default=0):.3g}; "
            f"expected {layout.size} positive deviations"
        )
    features = {**({} if layout.token is None else {"tokens": [-1, layout.token]}), "vector": [layout.vector]}
    name = "vector" if layout.token is None else "text"
    return ConvertedModel(
        config={
            "model": layout.spec().config(),
            "sde": conventions.sde.config(),
            "parametrization": conventions.parametrization.config(),
            "codec": ObjectSpec(Standardized, mean=mean, std=std).config(),
            "conditioning": ObjectSpec(GivenTensors, name=name, features=features).config(),
        },
        shape=(layout.size,),
        levels=None,
        classes=0,
        state=state,
        unused=mapper.unused,
        notes=conventions.notes,
    )


class PriorLayout:
    """Mapping of a PriorTransformer.

    Arguments:
        config: arguments of the constructor by name.

    Raises:
        ValueError: a setting is missing or not supported.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        reject_unknown(config, PRIOR_DEFAULTS, "PriorTransformer")
        self.settings = settings = {**PRIOR_DEFAULTS, **config}
        self.heads = whole(settings, "num_attention_heads")
        self.width = self.heads * whole(settings, "attention_head_dim")
        self.depth, self.size = whole(settings, "num_layers"), whole(settings, "embedding_dim")
        self.places = whole(settings, "num_embeddings") + whole(settings, "additional_embeddings", minimum=0)
        self.vector = self._size("embedding_proj_dim", self.size)
        if self._size("clip_embed_dim", self.size) != self.size:
            raise ValueError(
                f"clip_embed_dim={shown(settings['clip_embed_dim'])} is not supported; expected {self.size}, as "
                "embedding_dim"
            )
        self.last = self._is("added_emb_type", "prd")
        self.token = self.size if self._is("encoder_hid_proj_type", "linear") else None
        real(settings, "dropout")  # matters in training alone

    def spec(self) -> ObjectSpec:
        """Return the specification of the network."""
        return ObjectSpec(
            PriorTransformer,
            shape=[self.size],
            vector=self.vector,
            text=self.token,
            places=self.places,
            width=self.width,
            depth=self.depth,
            heads=self.heads,
            hidden=self._size("time_embed_dim", self.width),
            activation=activation(self.settings, "time_embed_act_fn"),
            norm_in=self._is("norm_in_type", "layer"),
            norm_vector=self._is("embedding_proj_norm_type", "layer"),
            last=self.last,
        )

    def map_weights(self, mapper: WeightMapper) -> None:
        """Copy the tensors."""
        names = {
            "embed.0": "time_embedding.linear_1",
            "embed.2": "time_embedding.linear_2",
            "stem": "proj_in",
            "norm_vector": "embedding_proj_norm",
            "vector": "embedding_proj",
            "text": "encoder_hidden_states_proj",
            "norm_in": "norm_in",
            "norm": "norm_out",
            "out": "proj_to_clip_embeddings",
        }
        for target, source in names.items():
            if f"{target}.weight" in mapper.needed:
                mapper.copy_layer(target, source)
        mapper.copy("places", "positional_embedding", _row)
        if self.last:
            mapper.copy("last", "prd_embedding", lambda value: value.flatten())
        for index in range(self.depth):
            for source, target in LAYERS.items():
                mapper.copy_layer(f"blocks.{index}.{target}", f"transformer_blocks.{index}.{source}")
        for name in ("clip_mean", "clip_std"):
            if name not in mapper.tensors:
                mapper.problems.append(f"{name} is missing")
            mapper.ignore(name, "mean or deviation of the embeddings, of which the codec is made")

    def _size(self, key: str, default: int) -> int:
        return default if self.settings[key] is None else whole(self.settings, key)

    def _is(self, key: str, word: str) -> bool:
        return self.settings[key] is not None and bool(choice(self.settings, key, word))


def _row(places: Tensor) -> Tensor:
    """Return positions (1, N, W) without their first axis."""
    return places[0]
