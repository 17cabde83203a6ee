"""The image_transformer_v2 of k-diffusion: which HDiT it is, and where its tensors go."""

import abc
import math
from collections.abc import Iterator, Mapping
from typing import Any

from sde_gen.interop.diffusers.unet2d import HALVES_SWAPPED
from sde_gen.interop.object_spec import ObjectSpec
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
"""Patches of an image, at most: what neighborhoods are made of grows with them, and no weight does."""

WIDEST = 32
"""Patches in the side of a neighborhood or a window, at most."""

FEED_FORWARD = {"up": "up_proj", "down": "down_proj"}
"""Our names of the dense layers of a feed-forward layer, and theirs."""


class TransformerLayout(abc.ABC):
    """What both versions have in common.

    Arguments:
        said: the section ``model`` with what their configuration assumes.
        classes: number of classes of the data.

    Raises:
        ValueError: a setting is missing, or one that our network does not have.
    """

    def __init__(self, said: Mapping[str, Any], classes: int) -> None:
        for key, expected in (("has_variance", False), ("skip_stages", 0)):
            if said[key] != expected:
                raise ValueError(
                    f"{key}={shown(said[key])} of a transformer is not supported; expected {expected}"
                )
        self.classes = classes
        self.channels = whole(said, "input_channels")
        self.shape = [self.channels, *wholes(said, "input_size", length=2)]
        self.patch = wholes(said, "patch_size", length=2)
        if math.prod(self.shape[1:]) > MOST_TOKENS * math.prod(self.patch):
            raise ValueError(
                f"input_size={self.shape[1:]} in patches of {self.patch} is not supported; expected at most "
                f"{MOST_TOKENS} of them"
            )

    @abc.abstractmethod
    def recipe(self) -> ObjectSpec:
        """Our network."""

    @abc.abstractmethod
    def move(self, moved: WeightMapper) -> None:
        """Move their tensors to our network."""

    def shared(self, moved: WeightMapper, depth: int) -> None:
        """Move what they tell the layers with, and the last normalization."""
        moved.move("embedding.frequencies", "time_emb.weight", lambda w: w.squeeze(1))
        moved.move("embed.weight", "time_in_proj.weight", HALVES_SWAPPED)  # our sines come first
        moved.move("augmentation.0.frequencies", "aug_emb.weight")
        moved.move("augmentation.1.weight", "aug_in_proj.weight", HALVES_SWAPPED)
        if self.classes:
            moved.move("classes.weight", "class_emb.weight")
        moved.move("mapping.norm_in.scale", "mapping.in_norm.scale")
        moved.move("mapping.norm_out.scale", "mapping.out_norm.scale")
        for index in range(depth):
            ours, theirs = f"mapping.layers.{index}", f"mapping.blocks.{index}"
            moved.move(f"{ours}.norm.scale", f"{theirs}.norm.scale")
            for mine, name in FEED_FORWARD.items():
                moved.move(f"{ours}.{mine}.weight", f"{theirs}.{name}.weight")
        moved.move("norm.scale", "out_norm.scale")

    def feed_forward(self, moved: WeightMapper, ours: str, theirs: str) -> None:
        """Move a feed-forward layer and its normalization."""
        moved.move(f"{ours}.norm.embed.weight", f"{theirs}.norm.linear.weight")
        for mine, name in FEED_FORWARD.items():
            moved.move(f"{ours}.{mine}.weight", f"{theirs}.{name}.weight")


class ImageTransformerV2Layout(TransformerLayout):
    """Their image_transformer_v2 of a configuration.

    Arguments:
        model: the section ``model``.
        classes: number of classes of the data.

    Raises:
        ValueError: a setting is missing, or one that our network does not have.
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
        said = {**self.defaults, **model}
        super().__init__(said, classes)
        self.widths, self.depths = (wholes(said, key, length=MOST_LEVELS) for key in ("widths", "depths"))
        many = len(self.widths)
        hidden = said["d_ffs"] or [3 * width for width in self.widths]
        self.hidden = wholes({"d_ffs": hidden}, "d_ffs", most=4 * LARGEST, length=MOST_LEVELS)
        near, far = {"type": "neighborhood"}, {"type": "global"}
        reaches = {"self_attns": said["self_attns"] or [near] * (many - 1) + [far]}
        self.reaches = [_reach(reach) for reach in listed(reaches, "self_attns", MOST_LEVELS)]
        rate = said["dropout_rate"] or 0.0
        rates = {"dropout_rate": rate if isinstance(rate, list | tuple) else [rate] * many}
        self.dropout = reals(rates, "dropout_rate", MOST_LEVELS)
        counts = [len(given) for given in (self.depths, self.hidden, self.reaches, self.dropout)]
        if counts != [many] * 4:
            raise ValueError(
                f"widths={self.widths}, depths={self.depths}, d_ffs={self.hidden}, {counts[2]} self_attns, "
                f"dropout_rate={self.dropout}: expected one of each for every level"
            )
        self.features, self.mapping_depth = (
            whole(said, "mapping_width"),
            whole(said, "mapping_depth", least=0),
        )
        hidden = said["mapping_d_ff"] or 3 * self.features
        self.mapping_hidden = whole({"mapping_d_ff": hidden}, "mapping_d_ff", most=4 * LARGEST)
        self.mapping_dropout = real(said, "mapping_dropout_rate")
        self.conditions = whole(said, "mapping_cond_dim", least=0)
        self.repeated = sum(self.depths) + self.mapping_depth

    def recipe(self) -> ObjectSpec:
        """Our network."""
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

    def move(self, moved: WeightMapper) -> None:
        """Move their tensors to our network."""
        self.shared(moved, self.mapping_depth)
        if self.conditions:
            moved.move("condition.weight", "mapping_cond_in_proj.weight")
        moved.move("stem.project.weight", "patch_in.proj.weight")
        moved.move("out.project.weight", "patch_out.proj.weight")
        for level in range(len(self.widths) - 1):
            moved.move(f"merge.{level}.project.weight", f"merges.{level}.proj.weight")
            moved.move(f"split.{level}.project.weight", f"splits.{level}.proj.weight")
            moved.move(f"split.{level}.share", f"splits.{level}.fac")
        for ours, theirs in self._layers():
            if f"{ours}.attention.scale" in moved.needed:
                mine, name = f"{ours}.attention", f"{theirs}.self_attn"
                moved.move(f"{mine}.norm.embed.weight", f"{name}.norm.linear.weight")
                moved.move(f"{mine}.qkv.weight", f"{name}.qkv_proj.weight")
                moved.move(f"{mine}.scale", f"{name}.scale")
                moved.move(f"{mine}.rotary.frequencies", f"{name}.pos_emb.freqs")
                moved.move(f"{mine}.out.weight", f"{name}.out_proj.weight")
            self.feed_forward(moved, f"{ours}.feed_forward", f"{theirs}.ff")

    def _layers(self) -> Iterator[tuple[str, str]]:
        """Our names of layers, and theirs."""
        last = len(self.widths) - 1
        for level, depth in enumerate(self.depths):
            for index in range(depth):
                if level == last:
                    yield f"middle.{index}", f"mid_level.{index}"
                else:
                    yield f"down.{level}.{index}", f"down_levels.{level}.{index}"
                    yield f"up.{level}.{index}", f"up_levels.{level}.{index}"


def _reach(said: Any) -> ObjectSpec | None:
    """Which tokens a token attends to, in their words."""
    if not isinstance(said, Mapping):
        raise ValueError(
            f"self_attns={shown(said)} is not supported; expected settings by name for every level"
        )
    known: dict[str, tuple[Any, dict[str, Any]]] = {
        "global": (GlobalAttention, {}),
        "neighborhood": (NeighborhoodAttention, {"kernel_size": 7}),
        "shifted-window": (ShiftedWindowAttention, {"window_size": None}),
        "none": (None, {}),
    }
    kind, sizes = known[choice(said, "type", *known)]
    if unknown := set(said) - {"type", "d_head", *sizes}:
        raise ValueError(f"self_attns of type {said['type']} have no setting {listing(unknown)}")
    if kind is None:
        return None
    size = [whole({**sizes, **said}, key, most=WIDEST) for key in sizes]
    return ObjectSpec(
        kind, head=whole({"d_head": 64, **said}, "d_head"), **dict(zip(["size"], size, strict=False))
    )
