"""Mapping of k-diffusion's image_v1 to a U-Net of sde_gen."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from sde_gen.interop.converted_model import ObjectSpec
from sde_gen.interop.diffusers.unet2d import HALVES_SWAPPED
from sde_gen.interop.settings import MOST_LEVELS, flag, listed, real, shown, whole, wholes
from sde_gen.interop.weight_mapper import WeightMapper
from sde_gen.model.unet.kdiff_unet import KDiffusionUNet

BLOCK = {
    "norm_in.embed": "main.0.mapper",
    "conv_in": "main.2",
    "norm_out.embed": "main.4.mapper",
    "conv_out": "main.6",
}
"""Parts of a residual block: names here and in k-diffusion."""

ATTENTION = {"norm.embed": "norm_in.mapper", "qkv": "qkv_proj", "out": "out_proj"}
"""Parts of an attention block: names here and in k-diffusion."""

DEFAULTS: dict[str, Any] = {
    "patch_size": 1,
    "augment_wrapper": True,
    "mapping_cond_dim": 0,
    "unet_cond_dim": 0,
    "cross_cond_dim": 0,
    "cross_attn_depths": None,
    "skip_stages": 0,
    "has_variance": False,
    "dropout_rate": 0.0,
}
"""Defaults of the configuration."""


class ImageV1Layout:
    """Mapping of an image_v1.

    Arguments:
        model: the section ``model``.
        classes: number of classes of the data, ignored by this network.

    Raises:
        ValueError: a setting is missing or not supported.
    """

    known = frozenset({*DEFAULTS, "mapping_out", "depths", "channels", "self_attn_depths"})

    def __init__(self, model: Mapping[str, Any], classes: int) -> None:
        del classes
        settings = {**DEFAULTS, **model}
        for key, why in (
            ("unet_cond_dim", "an image as conditioning"),
            ("cross_cond_dim", "cross-attention"),
        ):
            if settings[key] != 0:
                raise ValueError(f"{key}={shown(settings[key])}: {why} is not supported; expected 0")
        self.classes = 0
        self.shape = [whole(settings, "input_channels"), *wholes(settings, "input_size", length=2)]
        self.features, self.patch = whole(settings, "mapping_out"), whole(settings, "patch_size")
        self.depths = wholes(settings, "depths", length=MOST_LEVELS)
        self.channels = wholes(settings, "channels", length=MOST_LEVELS)
        there = listed(settings, "self_attn_depths", MOST_LEVELS)
        self.attends = [flag({"self_attn_depths": depth}, "self_attn_depths") for depth in there]
        if not len(self.depths) == len(self.channels) == len(self.attends):
            raise ValueError(
                f"depths={self.depths}, channels={self.channels}, self_attn_depths={self.attends}: "
                "expected one of each for every level"
            )
        self.skipped = whole(settings, "skip_stages", minimum=0)
        if self.skipped >= len(self.depths):
            raise ValueError(f"skip_stages={self.skipped}: expected 0 to {len(self.depths) - 1}")
        self.repeated = sum(self.depths[self.skipped :])
        extra = whole(settings, "mapping_cond_dim", minimum=0)
        self.augmentations = 9 * flag(settings, "augment_wrapper") + extra
        self.variance, self.dropout = flag(settings, "has_variance"), real(settings, "dropout_rate")

    def spec(self) -> ObjectSpec:
        """Return the specification of the network, without skipped stages."""
        first = self.skipped
        return ObjectSpec(
            KDiffusionUNet,
            shape=self.shape,
            width=self.channels[max(0, first - 1)],
            channels=self.channels[first:],
            blocks=self.depths[first:],
            attention_levels=[n for n, there in enumerate(self.attends[first:]) if there],
            features=self.features,
            patch=self.patch,
            dropout=self.dropout,
            num_classes=0,
            augmentations=self.augmentations,
        )

    def map_weights(self, mapper: WeightMapper) -> None:
        """Copy the tensors, without the variance output."""
        mapper.copy("embedding.frequencies", "timestep_embed.weight", lambda w: w.squeeze(1))
        if self.augmentations:  # sines come first here, in the input of the mapping network
            mapper.copy("augmentation.weight", "mapping_cond.weight", lambda w: HALVES_SWAPPED(w.mT).mT)
        mapper.copy_layer("mapping.0", "mapping.0", HALVES_SWAPPED)
        mapper.copy_layer("mapping.2", "mapping.2")
        mapper.copy_layer("stem", "proj_in")
        outputs = self.shape[0] * self.patch**2
        for kind in ("weight", "bias"):
            name = f"proj_out.{kind}"
            if not self.variance:
                mapper.copy(f"out.{kind}", name)
                continue
            mapper.copy(f"out.{kind}", name, lambda w: w[:-1])
            mapper.unused[f"{name}[{outputs}:]"] = "the variance, which only the original training uses"
        self._skip(mapper)
        for target, source in self._layers():
            for part, name in (ATTENTION if f"{target}.qkv.weight" in mapper.needed else BLOCK).items():
                mapper.copy_layer(f"{target}.{part}", f"{source}.{name}")
            if f"{target}.skip.weight" in mapper.needed:
                mapper.copy(f"{target}.skip.weight", f"{source}.skip.weight")
        for name, gain in self._filters():
            _leave_filter(mapper, name, gain)

    def _layers(self) -> Iterator[tuple[str, str]]:
        """Yield names of blocks and attention blocks here and in k-diffusion."""
        levels = len(self.depths)
        for level in range(self.skipped, levels):
            count = self.depths[level] * (1 + self.attends[level])
            down, up = level - self.skipped, levels - 1 - level
            halves = int(
                level > self.skipped
            )  # here the list of layers begins with the change of resolution, if there is one
            for index in range(count):
                yield f"down.{down}.layers.{index + halves}", f"u_net.d_blocks.{level}.{index + 1}"
                yield f"up.{up}.layers.{index}", f"u_net.u_blocks.{up}.{index}"

    def _filters(self) -> Iterator[tuple[str, int]]:
        """Yield name and gain of every filter."""
        levels = len(self.depths)
        for level in range(self.skipped + 1, levels):
            count = self.depths[level] * (1 + self.attends[level])
            yield f"u_net.d_blocks.{level}.0.kernel", 1
            yield f"u_net.u_blocks.{levels - 1 - level}.{count}.kernel", 4

    def _skip(self, mapper: WeightMapper) -> None:
        """Ignore the tensors of skipped stages."""
        last = len(self.depths) - 1
        stages = [f"u_net.d_blocks.{level}." for level in range(self.skipped)]
        stages += [f"u_net.u_blocks.{last - level}." for level in range(self.skipped)]
        for name in mapper.tensors:
            if name.startswith(tuple(stages)):
                mapper.ignore(name, "part of a stage that skip_stages skips")


def _leave_filter(mapper: WeightMapper, name: str, gain: int) -> None:
    """Ignore the filter of a resampling, after checking that it is the filter used here."""
    mapper.ignore(name, "the resampling filter, which is not stored here")
    value = mapper.tensors.get(name)
    line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    if value is not None and not torch.equal(value, gain * torch.outer(line, line)):
        mapper.problems.append(f"{name} is not the filter (1, 3, 3, 1)")
