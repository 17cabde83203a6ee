"""The SongUNet of EDM: which of our U-Nets it is, and where its tensors go."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from sde_gen.interop.object_spec import ObjectSpec
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
"""Their names of the parts of a residual block, and ours."""

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
"""What their constructor takes beside resolution and channels, and what it assumes."""


class SongUNetLayout:
    """Their SongUNet of some arguments of its constructor.

    Arguments:
        config: those arguments by name, with ``img_resolution`` and ``img_channels``.

    Raises:
        ValueError: a setting is missing, or none of theirs.
    """

    known = frozenset(DEFAULTS)

    def __init__(self, config: Mapping[str, Any]) -> None:
        said = {**DEFAULTS, **config}
        self.size, self.channels = whole(said, "img_resolution"), whole(said, "img_channels")
        self.width, self.blocks = whole(said, "model_channels"), whole(said, "num_blocks")
        self.multipliers = multipliers(said, "channel_mult")
        self.levels = len(self.multipliers)
        resolutions = wholes(said, "attn_resolutions", least=0)
        self.attention = [n for n in range(self.levels) if self.size >> n in resolutions]
        self.classes = whole(said, "label_dim", least=0, most=MOST_CLASSES)
        self.augmentations = whole(said, "augment_dim", least=0)
        self.fourier = choice(said, "embedding_type", "positional", "fourier") == "fourier"
        self.enter = choice(said, "encoder_type", "standard", "skip", "residual")
        self.leave = choice(said, "decoder_type", "standard", "skip")
        self.features = self.width * whole(said, "channel_mult_noise", most=MOST_TIMES)
        self.multiplier = whole(said, "channel_mult_emb", most=MOST_TIMES)
        self.taps = reals(said, "resample_filter", MOST_TAPS)
        self.dropout = real(said, "dropout")

    def recipe(self) -> ObjectSpec:
        """Our network."""
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

    def move(self, moved: WeightMapper, outputs: int) -> None:
        """Move their tensors, named without ``model.``, to our network; of every channel's outputs the first."""
        moved.layer("embed.0", "map_layer0")
        moved.layer("embed.2", "map_layer1")
        if self.fourier:
            moved.move("embedding.frequencies", "map_noise.freqs")
        if self.classes:
            moved.layer("class_features", "map_label")
        if self.augmentations:
            moved.move("augmentation.weight", "map_augment.weight")
        moved.layer("stem", f"enc.{self._at(0)}_conv")
        for ours, theirs in self._blocks():
            _block(moved, ours, theirs)
        for ours, theirs in self._attentions():
            _attention(moved, ours, theirs)
        for level in range(1, self.levels):
            if self.enter == "residual":
                moved.layer(f"inputs.{level - 1}.down.conv", f"enc.{self._at(level)}_aux_residual")
            elif self.enter == "skip":
                moved.layer(f"inputs.{level - 1}.project", f"enc.{self._at(level)}_aux_skip")
        for head, level in self._heads():
            moved.layer(f"{head}.norm", f"dec.{self._at(level)}_aux_norm")
            for kind in ("weight", "bias"):
                theirs = f"dec.{self._at(level)}_aux_conv.{kind}"
                moved.move(f"{head}.conv.{kind}", theirs, _first_of(outputs))
                if outputs > 1:
                    moved.unused[f"{theirs}[{self.channels}:]"] = "outputs that their preconditioning drops"
        self._filters(moved)

    def heads(self) -> list[str]:
        """Our names of the convolutions whose sum is the output."""
        return [f"{head}.conv" for head, _ in self._heads()]

    def _heads(self) -> list[tuple[str, int]]:
        if self.leave == "skip":
            return [(f"output.heads.{self.levels - 1 - level}", level) for level in range(self.levels)]
        return [("output.head", 0)]

    def _filters(self, moved: WeightMapper) -> None:
        """Leave their filters out where they are those of the configuration."""
        line = torch.tensor(self.taps) / sum(self.taps)
        for name, value in moved.tensors.items():
            if name.endswith(".resample_filter"):
                moved.leave(name, "the filter, which the configuration says")
                if value.shape != (1, 1, len(line), len(line)) or not torch.allclose(
                    value[0, 0], line.outer(line).to(value)
                ):
                    moved.faults.append(f"{name} is another filter than resample_filter={self.taps}")

    def _at(self, level: int) -> str:
        return f"{self.size >> level}x{self.size >> level}"

    def _blocks(self) -> Iterator[tuple[str, str]]:
        """Our names of the residual blocks, and theirs."""
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
        """Our names of the attentions, and theirs of the blocks they are part of."""
        yield "middle_attention", f"dec.{self._at(self.levels - 1)}_in0"
        for level in self.attention:
            for n in range(self.blocks):
                yield f"down_attention.{level * self.blocks + n}", f"enc.{self._at(level)}_block{n}"
            yield f"up_attention.{self.levels - 1 - level}", f"dec.{self._at(level)}_block{self.blocks}"


def _block(moved: WeightMapper, ours: str, theirs: str) -> None:
    for part, name in BLOCK.items():
        moved.layer(f"{ours}.{name}", f"{theirs}.{part}")
    if f"{ours}.skip.weight" in moved.needed:
        moved.layer(f"{ours}.skip", f"{theirs}.skip")


def _attention(moved: WeightMapper, ours: str, theirs: str) -> None:
    """Their query, key and value are one convolution whose channels take turns."""
    moved.layer(f"{ours}.norm", f"{theirs}.norm2")
    moved.layer(f"{ours}.out", f"{theirs}.proj")
    for turn, part in enumerate(("query", "key", "value")):
        for kind in ("weight", "bias"):
            moved.move(f"{ours}.{part}.{kind}", f"{theirs}.qkv.{kind}", _every_third(turn))


def _every_third(first: int) -> Callable[[Tensor], Tensor]:
    return lambda value: value[first::3]


def _first_of(outputs: int) -> Callable[[Tensor], Tensor]:
    return lambda value: value.reshape(outputs, -1, *value.shape[1:])[0]
