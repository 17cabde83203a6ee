"""Mapping of k-diffusion's image_transformer_v1 to an HDiT with one level."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sde_gen.interop.converted_model import ObjectSpec
from sde_gen.interop.k_diffusion.image_transformer_v2 import TransformerLayout
from sde_gen.interop.settings import real, whole
from sde_gen.interop.weight_mapper import WeightMapper
from sde_gen.model.transformer.attention import GlobalAttention
from sde_gen.model.transformer.hdit import HDiT, Level
from sde_gen.model.transformer.rotary import LearnedRotation


class ImageTransformerV1Layout(TransformerLayout):
    """Mapping of an image_transformer_v1 to an HDiT with one level.

    The original rotates adjacent pairs of features and stores patches channel by channel; here pairs are half a head
    apart and patches stored pixel by pixel, so rows and columns of the weights are permuted. The original stores the
    logarithm of the scale of the cosine similarity, clamped at log 100.

    Arguments:
        model: the section ``model``.
        classes: number of classes of the data.

    Raises:
        ValueError: a setting is missing or not supported.
    """

    defaults: Mapping[str, Any] = {
        "d_ff": 0,
        "augment_wrapper": False,
        "skip_stages": 0,
        "has_variance": False,
        "dropout_rate": 0.0,
    }
    known = frozenset({*defaults, "patch_size", "depth", "width"})
    head = 64

    def __init__(self, model: Mapping[str, Any], classes: int) -> None:
        settings = {**self.defaults, **model}
        super().__init__(settings, classes)
        self.width, self.depth = whole(settings, "width"), whole(settings, "depth")
        if self.width % self.head:
            raise ValueError(
                f"width={self.width}: expected a multiple of {self.head}, the features of a head"
            )
        self.hidden = whole({"d_ff": settings["d_ff"] or _round(8 * self.width / 3)}, "d_ff")
        self.dropout, self.repeated = real(settings, "dropout_rate"), self.depth

    def spec(self) -> ObjectSpec:
        """Return the specification of the network."""
        reach = ObjectSpec(GlobalAttention, head=self.head)
        level = ObjectSpec(
            Level, width=self.width, depth=self.depth, hidden=self.hidden, reach=reach, dropout=self.dropout
        )
        return ObjectSpec(
            HDiT,
            shape=self.shape,
            patch=self.patch,
            levels=[level],
            features=self.width,
            mapping_depth=2,
            mapping_hidden=self.hidden,
            mapping_dropout=self.dropout,
            num_classes=self.classes,
            augmentations=9,
            conditions=0,
            rotation=ObjectSpec(LearnedRotation),
            eps=self.head * 1e-6,  # the original adds it to the mean
            aspect=self.patch[0] / self.patch[1],
        )

    def map_weights(self, mapper: WeightMapper) -> None:
        """Copy the tensors."""
        self.shared(mapper, 2)
        cut = (self.channels, *self.patch)
        mapper.copy(
            "stem.project.weight",
            "in_proj.weight",
            lambda w: w.view(-1, *cut).permute(0, 2, 3, 1).flatten(1),
        )
        mapper.copy(
            "out.project.weight",
            "out_proj.weight",
            lambda w: w.view(*cut, -1).permute(1, 2, 0, 3).flatten(0, 2),
        )
        for index in range(self.depth):
            target, source = f"middle.{index}.attention", f"blocks.{index}.self_attn"
            mapper.copy(f"{target}.norm.embed.weight", f"{source}.norm.linear.weight")
            mapper.copy(f"{target}.qkv.weight", f"{source}.qkv_proj.weight", self._paired)
            mapper.copy(f"{target}.scale", f"{source}.qk_norm.scale", _scale)
            mapper.copy(f"{target}.rotary.log_rows", f"{source}.pos_emb.freqs_h")
            mapper.copy(f"{target}.rotary.log_columns", f"{source}.pos_emb.freqs_w")
            mapper.copy(f"{target}.out.weight", f"{source}.out_proj.weight")
            self.feed_forward(mapper, f"middle.{index}.feed_forward", f"blocks.{index}.ff")

    def _paired(self, weight: Tensor) -> Tensor:
        """Permute the rows of queries and keys: the first of every pair, then the second."""
        query, key, value = weight.chunk(3)
        apart = (
            part.view(-1, self.head // 2, 2, part.shape[-1]).transpose(1, 2).flatten(0, 2)
            for part in (query, key)
        )
        return torch.cat([*apart, value])


def _scale(logarithm: Tensor) -> Tensor:
    """Return the clamped exponential, computed in float64 to match the original's float32 value."""
    return logarithm.double().clamp(max=math.log(100)).exp()


def _round(x: float) -> int:
    """Return the roundest number within 5 % of x, k-diffusion's rule for the width of a feed-forward layer."""
    for power in reversed(range(math.ceil(math.log2(x)))):
        found: int = round(x / 2**power) * 2**power
        if abs(found - x) <= 0.05 * x:
            return found
    return round(x)
