"""Mapping of EDM's SongUNet to a U-Net of sde_gen."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from sde_gen.interop.converted_model import ObjectSpec
from sde_gen.interop.settings import (
    MOST_CLASSES,
    MOST_TAPS,
    MOST_TIMES,
    choice,
    multipliers,
    real,
    reals,
    whole,
    wholes,
)
from sde_gen.interop.weight_mapper import WeightMapper
from sde_gen.model.embedding import Fourier, Positional
from sde_gen.model.unet.progressive import NoInput, NoOutput, ResidualInput, SkipInput, SkipOutput
from sde_gen.model.unet.resample import FIR
from sde_gen.model.unet.song_unet import SongUNet

BLOCK = {"norm0": "norm_in", "conv0": "conv_in", "affine": "embed", "norm1": "norm_out", "conv1": "conv_out"}
"""Parts of a residual block: names in EDM and here."""

DEFAULTS: dict[str, Any] = {
    "label_dim": 0,
    "augment_dim": 0,
    "model_channels": 128,
    "channel_mult": [1, 2, 2, 2],
    "channel_mult_emb": 4,
    "num_blocks": 4,
    "attn_resolutions": [16],
    "dropout": 0.1,
    "label_dropout": 0.0,
    "embedding_type": "positional",
    "channel_mult_noise": 1,
    "encoder_type": "standard",
    "decoder_type": "standard",
    "resample_filter": [1, 1],
}
"""Defaults of the constructor's arguments except resolution and channels."""


class SongUNetLayout:
    """Mapping of a SongUNet.

    Arguments:
        config: arguments of the constructor by name, with ``img_resolution`` and ``img_channels``.

    Raises:
        ValueError: a setting is missing or unknown.
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
        self.fourier = choice(settings, "embedding_type", "positional", "fourier") == "fourier"
        self.enter = choice(settings, "encoder_type", "standard", "skip", "residual")
        self.leave = choice(settings, "decoder_type", "standard", "skip")
        self.features = self.width * whole(settings, "channel_mult_noise", maximum=MOST_TIMES)
        self.multiplier = whole(settings, "channel_mult_emb", maximum=MOST_TIMES)
        self.taps = reals(settings, "resample_filter", MOST_TAPS)
        self.dropout = real(settings, "dropout")

    def spec(self) -> ObjectSpec:
        """Return the specification of the network."""
        inputs = {"standard": NoInput, "skip": SkipInput, "residual": ResidualInput}
        return ObjectSpec(
            SongUNet,
            shape=[self.channels, self.size, self.size],
            width=self.width,
            multipliers=self.multipliers,
            blocks=self.blocks,
            attention_levels=self.attention,
            dropout=self.dropout,
            num_classes=self.classes,
            augmentations=self.augmentations,
            input_frequencies=[],
            embedding=ObjectSpec(Fourier, size=self.features // 2)
            if self.fourier
            else ObjectSpec(Positional, size=self.features),
            resampler=ObjectSpec(FIR, taps=self.taps),
            progressive_input=ObjectSpec(inputs[self.enter]),
            progressive_output=SkipOutput if self.leave == "skip" else NoOutput,
            embedding_multiplier=self.multiplier,
        )

    def map_weights(self, mapper: WeightMapper, outputs: int) -> None:
        """Copy the tensors, named without ``model.``; of several outputs per channel only the first is copied."""
        mapper.copy_layer("embed.0", "map_layer0")
        mapper.copy_layer("embed.2", "map_layer1")
        if self.fourier:
            mapper.copy("embedding.frequencies", "map_noise.freqs")
        if self.classes:
            mapper.copy_layer("class_features", "map_label")
        if self.augmentations:
            mapper.copy("augmentation.weight", "map_augment.weight")
        mapper.copy_layer("stem", f"enc.{self._at(0)}_conv")
        for target, source in self._blocks():
            _block(mapper, target, source)
        for target, source in self._attentions():
            _attention(mapper, target, source)
        for level in range(1, self.levels):
            if self.enter == "residual":
                mapper.copy_layer(f"inputs.{level - 1}.down.conv", f"enc.{self._at(level)}_aux_residual")
            elif self.enter == "skip":
                mapper.copy_layer(f"inputs.{level - 1}.project", f"enc.{self._at(level)}_aux_skip")
        for head, level in self._heads():
            mapper.copy_layer(f"{head}.norm", f"dec.{self._at(level)}_aux_norm")
            for kind in ("weight", "bias"):
                source = f"dec.{self._at(level)}_aux_conv.{kind}"
                mapper.copy(f"{head}.conv.{kind}", source, _first_of(outputs))
                if outputs > 1:
                    mapper.unused[f"{source}[{self.channels}:]"] = (
                        "outputs that the preconditioning of EDM ignores"
                    )
        self._filters(mapper)

    def output_layers(self) -> list[str]:
        """Return the names of the convolutions whose sum is the output."""
        return [f"{head}.conv" for head, _ in self._heads()]

    def _heads(self) -> list[tuple[str, int]]:
        if self.leave == "skip":
            return [(f"output.heads.{self.levels - 1 - level}", level) for level in range(self.levels)]
        return [("output.head", 0)]

    def _filters(self, mapper: WeightMapper) -> None:
        """Ignore the filters, after checking that they are those of the configuration."""
        line = torch.tensor(self.taps) / sum(self.taps)
        for name, value in mapper.tensors.items():
            if name.endswith(".resample_filter"):
                mapper.ignore(name, "the filter, which the configuration defines")
                if value.shape != (1, 1, len(line), len(line)) or not torch.allclose(
                    value[0, 0], line.outer(line).to(value)
                ):
                    mapper.problems.append(f"{name} is not the filter resample_filter={self.taps}")

    def _at(self, level: int) -> str:
        return f"{self.size >> level}x{self.size >> level}"

    def _blocks(self) -> Iterator[tuple[str, str]]:
        """Yield name and name in EDM of every residual block."""
        last = self.levels - 1
        yield from (("middle_in", f"dec.{self._at(last)}_in0"), ("middle_out", f"dec.{self._at(last)}_in1"))
        for level in range(self.levels):
            at, step = self._at(level), last - level
            for n in range(self.blocks):
                yield f"down_blocks.{level * self.blocks + n}", f"enc.{at}_block{n}"
            for n in range(self.blocks + 1):
                yield f"up_blocks.{step * (self.blocks + 1) + n}", f"dec.{at}_block{n}"
            if level > 0:
                yield f"descend.{level - 1}", f"enc.{at}_down"
            if level < last:
                yield f"ascend.{step - 1}", f"dec.{at}_up"

    def _attentions(self) -> Iterator[tuple[str, str]]:
        """Yield the names of every attention block, and of the block in EDM that contains it."""
        yield "middle_attention", f"dec.{self._at(self.levels - 1)}_in0"
        for level in self.attention:
            for n in range(self.blocks):
                yield f"down_attention.{level * self.blocks + n}", f"enc.{self._at(level)}_block{n}"
            yield f"up_attention.{self.levels - 1 - level}", f"dec.{self._at(level)}_block{self.blocks}"


def _block(mapper: WeightMapper, target: str, source: str) -> None:
    for part, name in BLOCK.items():
        mapper.copy_layer(f"{target}.{name}", f"{source}.{part}")
    if f"{target}.skip.weight" in mapper.needed:
        mapper.copy_layer(f"{target}.skip", f"{source}.skip")


def _attention(mapper: WeightMapper, target: str, source: str) -> None:
    """Copy an attention block; in EDM queries, keys and values are interleaved channels of one convolution."""
    mapper.copy_layer(f"{target}.norm", f"{source}.norm2")
    mapper.copy_layer(f"{target}.out", f"{source}.proj")
    for turn, part in enumerate(("query", "key", "value")):
        for kind in ("weight", "bias"):
            mapper.copy(f"{target}.{part}.{kind}", f"{source}.qkv.{kind}", _every_third(turn))


def _every_third(first: int) -> Callable[[Tensor], Tensor]:
    return lambda value: value[first::3]


def _first_of(outputs: int) -> Callable[[Tensor], Tensor]:
    return lambda value: value.reshape(outputs, -1, *value.shape[1:])[0]
