"""Mapping of score_sde_pytorch's networks to U-Nets of sde_gen."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from sde_gen.interop.converted_model import ObjectSpec
from sde_gen.interop.settings import (
    MOST_TAPS,
    choice,
    flag,
    multipliers,
    plausible,
    real,
    reals,
    whole,
    wholes,
)
from sde_gen.interop.weight_mapper import WeightMapper
from sde_gen.model.activation import ELU, LeakyReLU
from sde_gen.model.adm.level_resample import ConvResample, PlainResample, ResBlockResample
from sde_gen.model.embedding import Fourier, Positional
from sde_gen.model.norms import FixedGroups, QuarterGroups
from sde_gen.model.unet.base import UNet
from sde_gen.model.unet.progressive import (
    JoinedInput,
    NoInput,
    NoOutput,
    ResidualInput,
    ResidualOutput,
    SkipInput,
    SkipOutput,
)
from sde_gen.model.unet.resample import FIR, Box

Names = Mapping[str, str]
"""Parts of a module: names in score_sde and here."""

PLAIN = {"": ""}
BLOCK = {
    "GroupNorm_0": "norm_in",
    "Conv_0": "conv_in",
    "Dense_0": "embed",
    "GroupNorm_1": "norm_out",
    "Conv_1": "conv_out",
}
ATTENTION = {"GroupNorm_0": "norm", "NIN_0": "query", "NIN_1": "key", "NIN_2": "value", "NIN_3": "out"}
DOWN = {True: {"Conv2d_0": "conv"}, False: {"Conv_0": "1"}}
UP = {True: {"Conv2d_0": ""}, False: {"Conv_0": ""}}
"""Resampling convolutions, with and without a filter."""

ACTIVATIONS: dict[str, Any] = {
    "swish": None,
    "relu": ObjectSpec(LeakyReLU, slope=0.0),
    "lrelu": ObjectSpec(LeakyReLU, slope=0.2),
    "elu": ObjectSpec(ELU),
}
"""Activations by their name in score_sde."""

DDPM: dict[str, Any] = {
    "embedding_type": "positional",
    "resblock_type": "ddpm",
    "fir": False,
    "progressive": "none",
    "progressive_input": "none",
    "skip_rescale": False,
}
"""Options of NCSN++ that give DDPM; its normalizations have 32 groups."""


class NCSNppLayout:
    """Mapping of NCSN++, with all its options, or of DDPM.

    Arguments:
        model: the section ``model``.
        data: the section ``data``.

    Raises:
        ValueError: a setting is missing or unknown.
    """

    def __init__(self, model: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        named = choice({"nonlinearity": "swish", **model}, "nonlinearity", *ACTIVATIONS)
        self.activation = {} if named == "swish" else {"activation": ACTIVATIONS[named]}
        self.ddpm = choice({"name": "ncsnpp", **model}, "name", "ncsnpp", "ddpm") == "ddpm"
        if self.ddpm:
            model = {**model, **DDPM}
        self.fourier = choice(model, "embedding_type", "positional", "fourier") == "fourier"
        self.conditional = flag({"conditional": True, **model}, "conditional")
        self.biggan = choice(model, "resblock_type", "biggan", "ddpm") == "biggan"
        self.learned_change = flag({"resamp_with_conv": True, **model}, "resamp_with_conv")
        self.fir = flag(model, "fir")
        self.enter = choice(model, "progressive_input", "none", "residual", "input_skip")
        self.joined = (
            self.enter == "input_skip" and choice(model, "progressive_combine", "sum", "cat") == "cat"
        )
        self.leave = choice(model, "progressive", "none", "residual", "output_skip")
        self.multipliers = multipliers(model, "ch_mult")
        self.blocks = whole(model, "num_res_blocks")
        self.width = whole(model, "nf")
        self.dropout = real(model, "dropout")
        self.scale = 0.5**0.5 if flag(model, "skip_rescale") else 1.0
        self.taps = reals(model, "fir_kernel", MOST_TAPS) if self.fir else []
        if self.fir and sum(self.taps) == 0:
            raise ValueError(f"fir_kernel={self.taps} is not supported; expected taps whose sum is not zero")
        if len(self.taps) % 2:  # the original filter is then shifted by a pixel, as if it had one more tap
            self.taps = [0.0, *self.taps]
        size = whole(data, "image_size")
        self.shape = [whole(data, "num_channels"), size, size]
        self.levels = len(self.multipliers)
        resolutions = wholes(model, "attn_resolutions", minimum=0)
        self.attention = [level for level in range(self.levels) if size // 2**level in resolutions]

    def spec(self) -> ObjectSpec:
        """Return the specification of the network."""
        inputs = {"none": NoInput, "residual": ResidualInput, "input_skip": SkipInput}
        outputs = {"none": NoOutput, "residual": ResidualOutput, "output_skip": SkipOutput}
        change = ResBlockResample if self.biggan else ConvResample if self.learned_change else PlainResample
        return ObjectSpec(
            UNet,
            shape=self.shape,
            width=self.width,
            multipliers=self.multipliers,
            blocks=self.blocks,
            attention_levels=self.attention,
            dropout=self.dropout,
            num_classes=0,
            input_frequencies=[],
            embedding=ObjectSpec(Fourier if self.fourier else Positional, size=self.width),
            resampler=self._filter() if self.fir else ObjectSpec(Box),
            progressive_input=ObjectSpec(JoinedInput if self.joined else inputs[self.enter]),
            progressive_output=outputs[self.leave],
            change=ObjectSpec(change),
            scale=self.scale,
            norms=ObjectSpec(FixedGroups, groups=32) if self.ddpm else ObjectSpec(QuarterGroups),
            **self.activation,
        )

    def _filter(self) -> ObjectSpec:
        turned = {"turned": True} if self.taps != self.taps[::-1] else {}
        return ObjectSpec(FIR, taps=self.taps, **turned)

    def map_weights(self, tensors: Mapping[str, Tensor]) -> WeightMapper:
        """Return a mapper with all tensors copied, before its ``finish``."""
        plausible(tensors, self.levels * self.blocks)
        with torch.device("meta"):
            mapper = WeightMapper(tensors, self.spec().make())
        for number, (prefix, names) in enumerate(self._modules()):
            for source, target in names.items():
                if source == "Dense_0" and not self.conditional:
                    for kind in ("weight", "bias"):
                        mapper.ignore(
                            f"all_modules.{number}.{source}.{kind}", "the network has no noise label"
                        )
                    mapper.zero_layer(f"{prefix}.{target}")
                else:
                    _move(mapper, _join(prefix, target), _join(f"all_modules.{number}", source))
            if names is BLOCK and f"{prefix}.skip.weight" in mapper.needed:
                change = prefix.startswith(("descend", "ascend"))
                shortcut = "Conv_2" if self.biggan or change else "NIN_0"
                _move(mapper, f"{prefix}.skip", f"all_modules.{number}.{shortcut}")
        if not self.conditional:
            mapper.zero_layer("embed.0")
            mapper.zero_layer("embed.2")
        mapper.ignore("sigmas", "the noise levels of the training, which the process defines")
        return mapper

    def output_layers(self) -> list[str]:
        """Return the names of the convolutions whose sum is the output."""
        return (
            [f"output.heads.{index}.conv" for index in range(self.levels)]
            if self.leave == "output_skip"
            else ["output.head.conv"]
        )

    def _modules(self) -> Iterator[tuple[str, Names]]:
        """Yield the modules in their original order, with their names here and those of their parts."""
        if self.fourier:
            yield "embedding", {"W": "frequencies"}
        if self.conditional:
            yield from (("embed.0", PLAIN), ("embed.2", PLAIN))
        yield "stem", PLAIN
        for level in range(self.levels):
            for index in range(level * self.blocks, (level + 1) * self.blocks):
                yield f"down_blocks.{index}", BLOCK
                if level in self.attention:
                    yield f"down_attention.{index}", ATTENTION
            if level < self.levels - 1:
                yield self._change(f"descend.{level}", DOWN)
                if self.enter == "residual":
                    yield f"inputs.{level}.down", DOWN[self.fir]
                elif self.enter == "input_skip":
                    yield f"inputs.{level}", {"Conv_0": "project"}
        yield from (("middle_in", BLOCK), ("middle_attention", ATTENTION), ("middle_out", BLOCK))
        for step, level in enumerate(reversed(range(self.levels))):
            for index in range(step * (self.blocks + 1), (step + 1) * (self.blocks + 1)):
                yield f"up_blocks.{index}", BLOCK
            if level in self.attention:
                yield f"up_attention.{step}", ATTENTION
            if self.leave == "output_skip":
                yield from ((f"output.heads.{step}.norm", PLAIN), (f"output.heads.{step}.conv", PLAIN))
            elif self.leave == "residual" and step == 0:
                yield from (("output.first.0", PLAIN), ("output.first.2", PLAIN))
            elif self.leave == "residual":
                yield f"output.widen.{step - 1}", UP[self.fir]
            if level > 0:
                yield self._change(f"ascend.{step}", UP)
        if self.leave != "output_skip":
            yield from (("output.head.norm", PLAIN), ("output.head.conv", PLAIN))

    def _change(self, prefix: str, convolution: Mapping[bool, Names]) -> tuple[str, Names]:
        if self.biggan:
            return prefix, BLOCK
        return f"{prefix}.block", convolution[self.fir] if self.learned_change else {}


def _move(mapper: WeightMapper, target: str, source: str) -> None:
    """Copy a layer; a NIN is a 1x1 convolution stored as a matrix."""
    if source.endswith(".W"):
        mapper.copy(target, source)
    elif "NIN" in source:
        mapper.copy(f"{target}.weight", f"{source}.W", lambda w: w.mT[:, :, None, None])
        mapper.copy(f"{target}.bias", f"{source}.b")
    else:
        mapper.copy_layer(target, source)


def _join(*names: str) -> str:
    return ".".join(filter(None, names))
