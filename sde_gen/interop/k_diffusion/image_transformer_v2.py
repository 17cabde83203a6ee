"""Mapping of k-diffusion's image_transformer_v2 to an HDiT."""

import abc
import math
from collections.abc import Iterator, Mapping
from typing import Any

from sde_gen.interop.converted_model import ObjectSpec
from sde_gen.interop.diffusers.unet2d import HALVES_SWAPPED
from sde_gen.interop.settings import (
    LARGEST,
    MOST_LEVELS,
    choice,
    listed,
    listing,
    real,
    reals,
    shown,
    whole,
    wholes,
)
from sde_gen.interop.weight_mapper import WeightMapper
from sde_gen.model.transformer.attention import GlobalAttention, NeighborhoodAttention, ShiftedWindowAttention
from sde_gen.model.transformer.hdit import HDiT, Level
from sde_gen.model.transformer.rotary import SpreadRotation

MOST_TOKENS = 2**18
"""Maximum number of patches of an image, which no weight limits but the memory of neighborhoods depends on."""

WIDEST = 32
"""Maximum side of a neighborhood or a window in patches."""

FEED_FORWARD = {"up": "up_proj", "down": "down_proj"}
"""Dense layers of a feed-forward layer: names here and in k-diffusion."""


class TransformerLayout(abc.ABC):
    """Base of the mappings of both versions.

    Arguments:
        settings: the section ``model`` with the original defaults.
        classes: number of classes of the data.

    Raises:
        ValueError: a setting is missing or not supported.
    """

    def __init__(self, settings: Mapping[str, Any], classes: int) -> None:
        for key, expected in (("has_variance", False), ("skip_stages", 0)):
            if settings[key] != expected:
                raise ValueError(
                    f"{key}={shown(settings[key])} of a transformer is not supported; expected {expected}"
                )
        self.classes = classes
        self.channels = whole(settings, "input_channels")
        self.shape = [self.channels, *wholes(settings, "input_size", length=2)]
        self.patch = wholes(settings, "patch_size", length=2)
        if math.prod(self.shape[1:]) > MOST_TOKENS * math.prod(self.patch):
            raise ValueError(
                f"input_size={self.shape[1:]} in patches of {self.patch} is not supported; expected at most "
                f"{MOST_TOKENS} of them"
            )

    @abc.abstractmethod
    def spec(self) -> ObjectSpec:
        """Return the specification of the network."""

    @abc.abstractmethod
    def map_weights(self, mapper: WeightMapper) -> None:
        """Copy the tensors."""

    def shared(self, mapper: WeightMapper, depth: int) -> None:
        """Copy the mapping network, the embeddings and the last normalization."""
        mapper.copy("embedding.frequencies", "time_emb.weight", lambda w: w.squeeze(1))
        mapper.copy("embed.weight", "time_in_proj.weight", HALVES_SWAPPED)  # sines come first here
        mapper.copy("augmentation.0.frequencies", "aug_emb.weight")
        mapper.copy("augmentation.1.weight", "aug_in_proj.weight", HALVES_SWAPPED)
        if self.classes:
            mapper.copy("classes.weight", "class_emb.weight")
        mapper.copy("mapping.norm_in.scale", "mapping.in_norm.scale")
        mapper.copy("mapping.norm_out.scale", "mapping.out_norm.scale")
        for index in range(depth):
            target, source = f"mapping.layers.{index}", f"mapping.blocks.{index}"
            mapper.copy(f"{target}.norm.scale", f"{source}.norm.scale")
            for part, name in FEED_FORWARD.items():
                mapper.copy(f"{target}.{part}.weight", f"{source}.{name}.weight")
        mapper.copy("norm.scale", "out_norm.scale")

    def feed_forward(self, mapper: WeightMapper, target: str, source: str) -> None:
        """Copy a feed-forward layer and its normalization."""
        mapper.copy(f"{target}.norm.embed.weight", f"{source}.norm.linear.weight")
        for part, name in FEED_FORWARD.items():
            mapper.copy(f"{target}.{part}.weight", f"{source}.{name}.weight")


class ImageTransformerV2Layout(TransformerLayout):
    """Mapping of an image_transformer_v2.

    Arguments:
        model: the section ``model``.
        classes: number of classes of the data.

    Raises:
        ValueError: a setting is missing or not supported.
    """

    defaults: Mapping[str, Any] = {
        "mapping_width": 256,
        "mapping_depth": 2,
        "mapping_d_ff": None,
        "mapping_cond_dim": 0,
        "mapping_dropout_rate": 0.0,
        "d_ffs": None,
        "self_attns": None,
        "dropout_rate": None,
        "augment_wrapper": False,
        "skip_stages": 0,
        "has_variance": False,
    }
    known = frozenset({*defaults, "patch_size", "depths", "widths"})

    def __init__(self, model: Mapping[str, Any], classes: int) -> None:
        settings = {**self.defaults, **model}
        super().__init__(settings, classes)
        self.widths, self.depths = (wholes(settings, key, length=MOST_LEVELS) for key in ("widths", "depths"))
        many = len(self.widths)
        hidden = settings["d_ffs"] or [3 * width for width in self.widths]
        self.hidden = wholes({"d_ffs": hidden}, "d_ffs", maximum=4 * LARGEST, length=MOST_LEVELS)
        near, far = {"type": "neighborhood"}, {"type": "global"}
        reaches = {"self_attns": settings["self_attns"] or [near] * (many - 1) + [far]}
        self.reaches = [_reach(reach) for reach in listed(reaches, "self_attns", MOST_LEVELS)]
        rate = settings["dropout_rate"] or 0.0
        rates = {"dropout_rate": rate if isinstance(rate, list | tuple) else [rate] * many}
        self.dropout = reals(rates, "dropout_rate", MOST_LEVELS)
        counts = [len(given) for given in (self.depths, self.hidden, self.reaches, self.dropout)]
        if counts != [many] * 4:
            raise ValueError(
                f"widths={self.widths}, depths={self.depths}, d_ffs={self.hidden}, {counts[2]} self_attns, "
                f"dropout_rate={self.dropout}: expected one of each for every level"
            )
        self.features, self.mapping_depth = (
            whole(settings, "mapping_width"),
            whole(settings, "mapping_depth", minimum=0),
        )
        hidden = settings["mapping_d_ff"] or 3 * self.features
        self.mapping_hidden = whole({"mapping_d_ff": hidden}, "mapping_d_ff", maximum=4 * LARGEST)
        self.mapping_dropout = real(settings, "mapping_dropout_rate")
        self.conditions = whole(settings, "mapping_cond_dim", minimum=0)
        self.repeated = sum(self.depths) + self.mapping_depth

    def spec(self) -> ObjectSpec:
        """Return the specification of the network."""
        columns = zip(self.widths, self.depths, self.hidden, self.reaches, self.dropout, strict=True)
        return ObjectSpec(
            HDiT,
            shape=self.shape,
            patch=self.patch,
            levels=[
                ObjectSpec(Level, width=width, depth=depth, hidden=hidden, reach=reach, dropout=dropout)
                for width, depth, hidden, reach, dropout in columns
            ],
            features=self.features,
            mapping_depth=self.mapping_depth,
            mapping_hidden=self.mapping_hidden,
            mapping_dropout=self.mapping_dropout,
            num_classes=self.classes,
            augmentations=9,
            conditions=self.conditions,
            rotation=ObjectSpec(SpreadRotation),
            eps=1e-6,
            aspect=1.0,
        )

    def map_weights(self, mapper: WeightMapper) -> None:
        """Copy the tensors."""
        self.shared(mapper, self.mapping_depth)
        if self.conditions:
            mapper.copy("condition.weight", "mapping_cond_in_proj.weight")
        mapper.copy("stem.project.weight", "patch_in.proj.weight")
        mapper.copy("out.project.weight", "patch_out.proj.weight")
        for level in range(len(self.widths) - 1):
            mapper.copy(f"merge.{level}.project.weight", f"merges.{level}.proj.weight")
            mapper.copy(f"split.{level}.project.weight", f"splits.{level}.proj.weight")
            mapper.copy(f"split.{level}.share", f"splits.{level}.fac")
        for target, source in self._layers():
            if f"{target}.attention.scale" in mapper.needed:
                part, name = f"{target}.attention", f"{source}.self_attn"
                mapper.copy(f"{part}.norm.embed.weight", f"{name}.norm.linear.weight")
                mapper.copy(f"{part}.qkv.weight", f"{name}.qkv_proj.weight")
                mapper.copy(f"{part}.scale", f"{name}.scale")
                mapper.copy(f"{part}.rotary.frequencies", f"{name}.pos_emb.freqs")
                mapper.copy(f"{part}.out.weight", f"{name}.out_proj.weight")
            self.feed_forward(mapper, f"{target}.feed_forward", f"{source}.ff")

    def _layers(self) -> Iterator[tuple[str, str]]:
        """Yield names of the layers here and in k-diffusion."""
        last = len(self.widths) - 1
        for level, depth in enumerate(self.depths):
            for index in range(depth):
                if level == last:
                    yield f"middle.{index}", f"mid_level.{index}"
                else:
                    yield f"down.{level}.{index}", f"down_levels.{level}.{index}"
                    yield f"up.{level}.{index}", f"up_levels.{level}.{index}"


def _reach(settings: Any) -> ObjectSpec | None:
    """Return the specification of the attention pattern."""
    if not isinstance(settings, Mapping):
        raise ValueError(
            f"self_attns={shown(settings)} is not supported; expected settings by name for every level"
        )
    known: dict[str, tuple[Any, dict[str, Any]]] = {
        "global": (GlobalAttention, {}),
        "neighborhood": (NeighborhoodAttention, {"kernel_size": 7}),
        "shifted-window": (ShiftedWindowAttention, {"window_size": None}),
        "none": (None, {}),
    }
    kind, sizes = known[choice(settings, "type", *known)]
    if unknown := set(settings) - {"type", "d_head", *sizes}:
        raise ValueError(f"self_attns of type {settings['type']} have no setting {listing(unknown)}")
    if kind is None:
        return None
    size = [whole({**sizes, **settings}, key, maximum=WIDEST) for key in sizes]
    return ObjectSpec(
        kind, head=whole({"d_head": 64, **settings}, "d_head"), **dict(zip(["size"], size, strict=False))
    )
