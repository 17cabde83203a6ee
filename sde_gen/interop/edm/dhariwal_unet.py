"""Mapping of EDM's DhariwalUNet to a U-Net of sde_gen."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from sde_gen.interop.converted_model import ObjectSpec
from sde_gen.interop.settings import MOST_CLASSES, MOST_TIMES, multipliers, real, whole, wholes
from sde_gen.interop.weight_mapper import WeightMapper
from sde_gen.model.adm.adm import ADM
from sde_gen.model.norms import QuarterGroups

BLOCK = {"norm0": "norm_in", "conv0": "conv_in", "affine": "embed", "norm1": "norm_out", "conv1": "conv_out"}
"""Parts of a residual block: names in EDM and here."""

HEAD = 64
"""Minimum number of channels of an attention head; with fewer channels there is no attention."""

DEFAULTS: dict[str, Any] = {
    "label_dim": 0,
    "augment_dim": 0,
    "model_channels": 192,
    "channel_mult": [1, 2, 3, 4],
    "channel_mult_emb": 4,
    "num_blocks": 3,
    "attn_resolutions": [32, 16, 8],
    "dropout": 0.1,
    "label_dropout": 0.0,
}
"""Defaults of the constructor's arguments except resolution and channels."""


class DhariwalUNetLayout:
    """Mapping of a DhariwalUNet.

    Arguments:
        config: arguments of the constructor by name, with ``img_resolution`` and ``img_channels``.

    Raises:
        ValueError: a setting is missing or not supported.
    """

    known = frozenset(DEFAULTS)

    def __init__(self, config: Mapping[str, Any]) -> None:
        settings = {**DEFAULTS, **config}
        self.size, self.channels = whole(settings, "img_resolution"), whole(settings, "img_channels")
        self.width, self.blocks = whole(settings, "model_channels"), whole(settings, "num_blocks")
        self.multipliers = multipliers(settings, "channel_mult")
        self.levels = len(self.multipliers)
        resolutions = wholes(settings, "attn_resolutions", minimum=0)
        self.attention = [n for n in range(self.levels) if self.size >> n in resolutions]
        self.classes = whole(settings, "label_dim", minimum=0, maximum=MOST_CLASSES)
        self.augmentations = whole(settings, "augment_dim", minimum=0)
        self.multiplier, self.dropout = (
            whole(settings, "channel_mult_emb", maximum=MOST_TIMES),
            real(settings, "dropout"),
        )

    def spec(self) -> ObjectSpec:
        """Return the specification of the network."""
        return ObjectSpec(
            ADM,
            shape=[self.channels, self.size, self.size],
            width=self.width,
            multipliers=self.multipliers,
            blocks=self.blocks,
            attention_levels=self.attention,
            head_channels=HEAD,
            wide_heads=True,
            dropout=self.dropout,
            num_classes=self.classes,
            norms=ObjectSpec(QuarterGroups, eps=1e-5),
            embedding_multiplier=self.multiplier,
            augmentations=self.augmentations,
        )

    def map_weights(self, mapper: WeightMapper, outputs: int) -> None:
        """Copy the tensors, named without ``model.``; of several outputs per channel only the first is copied."""
        for target, source in (
            ("embed.0", "map_layer0"),
            ("embed.2", "map_layer1"),
            ("stem", f"enc.{self._at(0)}_conv"),
            ("norm", "out_norm"),
        ):
            mapper.copy_layer(target, source)
        if self.augmentations:
            mapper.copy("augmentation.weight", "map_augment.weight")
        if self.classes:
            mapper.copy("classes.weight", "map_label.weight", _rows_with_null_class)
        for target, source, attends in self._blocks():
            for part, name in BLOCK.items():
                mapper.copy_layer(f"{target}.{name}", f"{source}.{part}")
            if f"{target}.skip.weight" in mapper.needed:
                mapper.copy_layer(f"{target}.skip", f"{source}.skip")
            for name in (f"{source}.{part}.resample_filter" for part in ("conv0", "skip")):
                _leave_average(mapper, name)
            if attends and mapper.needed[f"{target}.norm_out.weight"][0] >= HEAD:
                self._attention(mapper, f"{target.removesuffix('.block')}.attention", source)
        for kind in ("weight", "bias"):
            mapper.copy(f"out.{kind}", f"out_conv.{kind}", lambda x: x.reshape(outputs, -1, *x.shape[1:])[0])
            if outputs > 1:
                mapper.unused[f"out_conv.{kind}[{self.channels}:]"] = (
                    "outputs that the preconditioning of EDM ignores"
                )

    def output_layers(self) -> list[str]:
        """Return the names of the convolutions whose sum is the output."""
        return ["out"]

    def _attention(self, mapper: WeightMapper, target: str, source: str) -> None:
        mapper.copy_layer(f"{target}.norm", f"{source}.norm2")
        mapper.copy_layer(f"{target}.out", f"{source}.proj")
        heads = mapper.needed[f"{target}.out.bias"][0] // HEAD
        for kind in ("weight", "bias"):
            mapper.copy(f"{target}.qkv.{kind}", f"{source}.qkv.{kind}", _in_thirds(heads))

    def _blocks(self) -> Iterator[tuple[str, str, bool]]:
        """Yield name, name in EDM and presence of attention of every residual block."""
        number = 0
        for level in range(self.levels):
            if level:
                yield f"down.{number}.block", f"enc.{self._at(level)}_down", False
                number += 1
            for index in range(self.blocks):
                yield f"down.{number}.block", f"enc.{self._at(level)}_block{index}", level in self.attention
                number += 1
        last, number = self._at(self.levels - 1), 0
        yield from (("middle.0.block", f"dec.{last}_in0", True), ("middle.1.block", f"dec.{last}_in1", False))
        for level in reversed(range(self.levels)):
            for index in range(self.blocks + 1):
                yield f"up.{number}.block", f"dec.{self._at(level)}_block{index}", level in self.attention
                number += 1
            if level:
                yield f"up.{number - 1}.finer.0", f"dec.{self._at(level - 1)}_up", False

    def _at(self, level: int) -> str:
        return f"{self.size >> level}x{self.size >> level}"


def _rows_with_null_class(weight: Tensor) -> Tensor:
    """Return the weight of a dense layer on one-hot vectors as an embedding table, with zeros for the null class."""
    return torch.cat([weight.T, torch.zeros_like(weight.T[:1])])


def _in_thirds(heads: int) -> Callable[[Tensor], Tensor]:
    """Return the reordering from interleaved queries, keys and values to queries, then keys, then values."""
    return lambda x: x.reshape(heads, -1, 3, *x.shape[1:]).movedim(2, 0).reshape(x.shape)


def _leave_average(mapper: WeightMapper, name: str) -> None:
    """Ignore the filter of a resampling, after checking that it is the average."""
    mapper.ignore(name, "the averaging filter, which is not stored here")
    value = mapper.tensors.get(name)
    if value is not None and not bool((value == 0.25).all()):
        mapper.problems.append(f"{name} is not the averaging filter")
