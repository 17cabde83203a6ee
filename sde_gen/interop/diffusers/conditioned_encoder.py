"""Mapping of embedding, encoder path and middle of diffusers' UNet2DConditionModel and ControlNetModel."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sde_gen.interop.converted_model import ObjectSpec
from sde_gen.interop.diffusers.condition_settings import (
    ConditionSettings,
    activation,
)
from sde_gen.interop.diffusers.unet2d import ATTENTION, HALVES_SWAPPED, WITH_NULL_CLASS, block
from sde_gen.interop.settings import MOST_CLASSES, choice, flag, real, shown, whole
from sde_gen.interop.weight_mapper import WeightMapper
from sde_gen.model.norms import FixedGroups
from sde_gen.model.unet.condition_inputs import (
    ConditionInputs,
    DenseVector,
    LinearVector,
    PlainVector,
    VectorAndNumbers,
)

NUMBERS = 6
"""Numbers beside the text of SDXL: original size, crop and target size (Podell et al., 2023, arXiv:2307.01952)."""

POOLING = {
    "norm1": "norm_in",
    "pool.q_proj": "query",
    "pool.k_proj": "key",
    "pool.v_proj": "value",
    "proj": "out",
    "norm2": "norm_out",
}
"""Layers of the pooling of tokens: names in diffusers and here."""

TRANSFORMER = {
    "norm1": "norm_self",
    "attn1.to_out.0": "self_attention.out",
    "norm2": "norm_cross",
    "attn2.to_out.0": "cross_attention.out",
    "norm3": "norm_mlp",
    "ff.net.0.proj": "mlp.up",
    "ff.net.2": "mlp.down",
}
"""Layers of a transformer block with biases: names in diffusers and here."""


class ConditionedEncoderLayout:
    """Mapping of embedding, encoder path and middle, which ControlNetModel has, too.

    Arguments:
        sizes: the checked settings.

    Raises:
        ValueError: a setting is missing or not supported.
    """

    def __init__(self, sizes: ConditionSettings) -> None:
        self.sizes = sizes
        self.classes = 0
        self.inputs = self._inputs()

    def keywords(self) -> dict[str, Any]:
        """Return the arguments of :class:`~sde_gen.model.unet.conditioned_encoder.ConditionedEncoder` but the shape."""
        sizes, settings = self.sizes, self.sizes.settings
        return {
            "down": [sizes.level(number) for number in range(sizes.levels)],
            "middle": sizes.middle(),
            "features": sizes.features(),
            "embedding": sizes.embedding(),
            "conditions": ObjectSpec(ConditionInputs, **self.inputs),
            "text": self._text(),
            "modulated": sizes.modulated,
            "activation": sizes.activation,
            "post_activation": activation(settings, "timestep_post_act"),
            "embedding_activation": activation(settings, "time_embedding_act_fn"),
            "norms": ObjectSpec(FixedGroups, groups=sizes.groups, eps=sizes.eps),
            "dropout": real(settings, "dropout"),
            "padded": whole(settings, "downsample_padding", minimum=0, maximum=1) == 1,
            "kernel": self.kernel("conv_in_kernel"),
        }

    def kernel(self, key: str) -> int:
        """Return an odd side of a kernel."""
        found = whole(self.sizes.settings, key, maximum=63)
        if found % 2 == 0:
            raise ValueError(f"{key}={found} is not supported; expected an odd number")
        return found

    @property
    def vector(self) -> int | None:
        """Return the length of the vector that the network takes, negative for several; None for no vector."""
        if "added_vector" in self.inputs:
            added = self.inputs["added_vector"].keywords
            more = added["sinusoids"].keywords["size"] - 1
            first = self.inputs["class_vector"].keywords["size"] if "class_vector" in self.inputs else 0
            return -int(first + added["inputs"] - more * min(NUMBERS, (added["inputs"] - 1) // (more + 1)))
        first = self.inputs.get("class_vector")
        return None if first is None else int(first.keywords["size"])

    @property
    def token(self) -> int | None:
        """Return the features of a token that is given; None where the network reads no text."""
        sizes = self.sizes
        kinds = {*sizes.down, *sizes.up, sizes.middle_kind()}
        if not kinds & {"transformer", "joined"} and "pooling_heads" not in self.inputs:
            return None
        return self._text()[0] if self._text() else sizes.context[0]

    def _text(self) -> list[int]:
        """Return the features of a token before and after the projection; nothing without one."""
        settings = self.sizes.settings
        if settings["encoder_hid_dim"] is None and settings["encoder_hid_dim_type"] is None:
            return []
        choice(
            {"encoder_hid_dim_type": "text_proj", **_given(settings, "encoder_hid_dim_type")},
            "encoder_hid_dim_type",
            "text_proj",
        )
        return [whole(settings, "encoder_hid_dim"), whole(settings, "cross_attention_dim")]

    def _inputs(self) -> dict[str, Any]:
        """Return the arguments of the embedding of conditions."""
        settings = self.sizes.settings
        found: dict[str, Any] = {}
        kind = settings["class_embed_type"]
        if kind is None and settings["num_class_embeds"] is not None:
            self.classes = whole(settings, "num_class_embeds", maximum=MOST_CLASSES)
            found["classes"] = self.classes
        elif kind is not None:
            kind = choice(
                settings, "class_embed_type", "timestep", "identity", "projection", "simple_projection"
            )
            if kind == "timestep":
                found["level"] = self.sizes.embedding()
            elif kind == "identity":
                found["class_vector"] = ObjectSpec(PlainVector, size=self.sizes.features())
            else:
                dense = DenseVector if kind == "projection" else LinearVector
                size = whole(settings, "projection_class_embeddings_input_dim")
                found["class_vector"] = ObjectSpec(dense, size=size)
        added = settings["addition_embed_type"]
        if added is not None:
            added = choice(settings, "addition_embed_type", "text", "text_time")
        if added == "text_time":
            found["added_vector"] = self._text_time()
        if added == "text":
            found["pooling_heads"] = whole(settings, "addition_embed_type_num_heads")
            context = self._text()[0] if self._text() else whole(settings, "cross_attention_dim")
            if context % found["pooling_heads"]:
                raise ValueError(
                    f"addition_embed_type_num_heads={found['pooling_heads']} is not supported; expected a divisor of "
                    f"the {context} features of a token"
                )
            found["pooling_context"] = context
        if flag(settings, "class_embeddings_concat"):
            if added is not None or not found:
                raise ValueError(
                    f"class_embeddings_concat=true with addition_embed_type={shown(added)} and class_embed_type="
                    f"{shown(kind)} is not supported; expected a class embedding, and nothing added"
                )
            found["concatenated"] = True
        return found

    def _text_time(self) -> ObjectSpec:
        """Return the embedding of SDXL, of a pooled text and some numbers."""
        width = whole(self.sizes.settings, "addition_time_embed_dim", minimum=2)
        inputs = whole(self.sizes.settings, "projection_class_embeddings_input_dim")
        if inputs <= width:
            raise ValueError(
                f"projection_class_embeddings_input_dim={inputs} is not supported; expected more than "
                f"addition_time_embed_dim={width}"
            )
        return ObjectSpec(VectorAndNumbers, inputs=inputs, sinusoids=self.sizes.sinusoids(width))

    def map_encoder(self, mapper: WeightMapper, prefix: str = "") -> None:
        """Copy the tensors of embedding, encoder path and middle to the names that begin with ``prefix``."""
        sizes = self.sizes
        swap = None
        if sizes.fourier:
            mapper.copy(f"{prefix}embedding.frequencies", "time_proj.weight")
            swap = HALVES_SWAPPED if flag(sizes.settings, "flip_sin_to_cos") else None
        mapper.copy_layer(f"{prefix}embed.0", "time_embedding.linear_1", swap)
        mapper.copy_layer(f"{prefix}embed.2", "time_embedding.linear_2")
        self._map_inputs(mapper, f"{prefix}conditions", swap)
        if self._text():
            mapper.copy_layer(f"{prefix}project", "encoder_hid_proj")
        mapper.copy_layer(f"{prefix}stem", "conv_in")
        at = 0
        for level in range(sizes.levels):
            for index in range(sizes.blocks[level]):
                stage(mapper, f"{prefix}down.{at}", f"down_blocks.{level}", index, sizes.down[level])
                at += 1
            if level < sizes.levels - 1:
                change(
                    mapper,
                    f"{prefix}down.{at}.change",
                    f"down_blocks.{level}.downsamplers.0",
                    sizes.down[level],
                )
                at += 1
        kind = sizes.middle_kind()
        for index in range(0 if kind is None else 1 if kind == "block" else 2):
            stage(mapper, f"{prefix}middle.{index}", "mid_block", index, "block" if index else kind)

    def _map_inputs(self, mapper: WeightMapper, target: str, swap: Any) -> None:
        found = self.inputs
        if "classes" in found:
            mapper.copy(f"{target}.classes.weight", "class_embedding.weight", WITH_NULL_CLASS)
        if "level" in found:
            if self.sizes.fourier:
                mapper.copy(f"{target}.level.frequencies", "time_proj.weight")
            mapper.copy_layer(f"{target}.dense.0", "class_embedding.linear_1", swap)
            mapper.copy_layer(f"{target}.dense.2", "class_embedding.linear_2")
        kind = self.sizes.settings["class_embed_type"]
        if "class_vector" in found and kind == "projection":
            _two_layers(mapper, f"{target}.class_vector", "class_embedding")
        elif "class_vector" in found and kind == "simple_projection":
            mapper.copy_layer(f"{target}.class_vector", "class_embedding")
        if "added_vector" in found:
            _two_layers(mapper, f"{target}.added_vector.dense", "add_embedding")
        if "pooling_heads" in found:
            for name, part in POOLING.items():
                mapper.copy_layer(f"{target}.pooled.{part}", f"add_embedding.{name}")
            mapper.copy(f"{target}.pooled.place", "add_embedding.pool.positional_embedding")


def stage(mapper: WeightMapper, target: str, source: str, index: int, kind: str | None) -> None:
    """Copy a residual block and its attention."""
    block(mapper, f"{target}.block", f"{source}.resnets.{index}")
    if kind == "transformer":
        _transformer(mapper, f"{target}.attention", f"{source}.attentions.{index}")
    elif kind in ("joined", "pixels"):
        _attention(mapper, f"{target}.attention", f"{source}.attentions.{index}")


def change(mapper: WeightMapper, target: str, source: str, kind: str) -> None:
    """Copy a change of resolution: a residual block or a convolution."""
    if kind in ("inside", "joined"):
        block(mapper, target, source)
    else:
        mapper.copy_layer(f"{target}.conv", f"{source}.conv")


def _transformer(mapper: WeightMapper, target: str, source: str) -> None:
    mapper.copy_layer(f"{target}.norm", f"{source}.norm")
    mapper.copy_layer(f"{target}.project_in", f"{source}.proj_in", _as_convolution)
    mapper.copy_layer(f"{target}.project_out", f"{source}.proj_out", _as_convolution)
    at = 0
    while f"{target}.blocks.{at}.norm_mlp.weight" in mapper.needed:
        mine, other = f"{target}.blocks.{at}", f"{source}.transformer_blocks.{at}"
        for name, part in TRANSFORMER.items():
            mapper.copy_layer(f"{mine}.{part}", f"{other}.{name}")
        for number, part in (("attn1", "self_attention"), ("attn2", "cross_attention")):
            for letter, name in (("q", "query"), ("k", "key"), ("v", "value")):
                mapper.copy(f"{mine}.{part}.{name}.weight", f"{other}.{number}.to_{letter}.weight")
        at += 1


def _attention(mapper: WeightMapper, target: str, source: str) -> None:
    """Copy an attention to pixels and tokens; layers that the network has not are not copied."""
    names = {
        **ATTENTION,
        "group_norm": "norm",
        "norm_cross": "norm_text",
        "add_k_proj": "text_key",
        "add_v_proj": "text_value",
    }
    for name, part in names.items():
        if f"{target}.{part}.weight" in mapper.needed:
            mapper.copy_layer(f"{target}.{part}", f"{source}.{name}")


def _two_layers(mapper: WeightMapper, target: str, source: str) -> None:
    mapper.copy_layer(f"{target}.0", f"{source}.linear_1")
    mapper.copy_layer(f"{target}.2", f"{source}.linear_2")


def _as_convolution(weight: Tensor) -> Tensor:
    """Return the weight of a 1x1 convolution, or of a dense layer, as that of a 1x1 convolution."""
    return weight[..., None, None] if weight.ndim == 2 else weight


def _given(settings: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {} if settings[key] is None else {key: settings[key]}
