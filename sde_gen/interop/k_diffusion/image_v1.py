"""The image_v1 of k-diffusion: which of our U-Nets it is, and where its tensors go."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from sde_gen.interop.diffusers.unet2d import HALVES_SWAPPED
from sde_gen.interop.object_spec import ObjectSpec
from sde_gen.interop.settings import MOST_LEVELS, flag, listed, real, shown, whole, wholes
from sde_gen.interop.weight_mapper import WeightMapper
from sde_gen.model.unet.kdiff_unet import KDiffusionUNet

BLOCK = {
    "norm_in.embed": "main.0.mapper",
    "conv_in": "main.2",
    "norm_out.embed": "main.4.mapper",
    "conv_out": "main.6",
}
"""Our names of the parts of a residual block, and theirs."""

ATTENTION = {"norm.embed": "norm_in.mapper", "qkv": "qkv_proj", "out": "out_proj"}
"""Our names of the parts of an attention, and theirs."""

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
"""What their configuration assumes."""


class ImageV1Layout:
    """Their image_v1 of a configuration.

    Arguments:
        model: the section ``model``.
        classes: of the data, of which this network is not told.

    Raises:
        ValueError: a setting is missing, or one that our network does not have.
    """

    known = frozenset({*DEFAULTS, "mapping_out", "depths", "channels", "self_attn_depths"})

    def __init__(self, model: Mapping[str, Any], classes: int) -> None:
        del classes
        settings = {**DEFAULTS, **model}
        for key, why in (
            ("unet_cond_dim", "an image beside the image"),
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
        self.attends = [flag({"self_attn_depths": one}, "self_attn_depths") for one in there]
        if not len(self.depths) == len(self.channels) == len(self.attends):
            raise ValueError(
                f"depths={self.depths}, channels={self.channels}, self_attn_depths={self.attends}: "
                "expected one of each for every level"
            )
        self.skipped = whole(settings, "skip_stages", minimum=0)
        if self.skipped >= len(self.depths):
            raise ValueError(f"skip_stages={self.skipped}: expected 0 to {len(self.depths) - 1}")
        self.repeated = sum(self.depths[self.skipped :])
        told = whole(settings, "mapping_cond_dim", minimum=0)
        self.augmentations = 9 * flag(settings, "augment_wrapper") + told
        self.variance, self.dropout = flag(settings, "has_variance"), real(settings, "dropout_rate")

    def spec(self) -> ObjectSpec:
        """Our network, without the stages that theirs skips."""
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
        """Move their tensors to our network; of the outputs all but the one of the variance."""
        mapper.copy("embedding.frequencies", "timestep_embed.weight", lambda w: w.squeeze(1))
        if self.augmentations:  # our sines come first; the mapping network sees sums with them
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
            mapper.unused[f"{name}[{outputs}:]"] = "the variance, which only their training uses"
        self._skip(mapper)
        for target, source in self._layers():
            for part, name in (ATTENTION if f"{target}.qkv.weight" in mapper.needed else BLOCK).items():
                mapper.copy_layer(f"{target}.{part}", f"{source}.{name}")
            if f"{target}.skip.weight" in mapper.needed:
                mapper.copy(f"{target}.skip.weight", f"{source}.skip.weight")
        for name, gain in self._filters():
            _leave_filter(mapper, name, gain)

    def _layers(self) -> Iterator[tuple[str, str]]:
        """Our names of blocks and attentions, and theirs."""
        levels = len(self.depths)
        for level in range(self.skipped, levels):
            count = self.depths[level] * (1 + self.attends[level])
            down, up = level - self.skipped, levels - 1 - level
            halves = int(
                level > self.skipped
            )  # our list of layers begins with the change of resolution, if there is one
            for index in range(count):
                yield f"down.{down}.layers.{index + halves}", f"u_net.d_blocks.{level}.{index + 1}"
                yield f"up.{up}.layers.{index}", f"u_net.u_blocks.{up}.{index}"

    def _filters(self) -> Iterator[tuple[str, int]]:
        """Their names of the filters, and the sum of each."""
        levels = len(self.depths)
        for level in range(self.skipped + 1, levels):
            count = self.depths[level] * (1 + self.attends[level])
            yield f"u_net.d_blocks.{level}.0.kernel", 1
            yield f"u_net.u_blocks.{levels - 1 - level}.{count}.kernel", 4

    def _skip(self, mapper: WeightMapper) -> None:
        """Leave the stages out that their network has and does not use."""
        last = len(self.depths) - 1
        stages = [f"u_net.d_blocks.{level}." for level in range(self.skipped)]
        stages += [f"u_net.u_blocks.{last - level}." for level in range(self.skipped)]
        for name in mapper.tensors:
            if name.startswith(tuple(stages)):
                mapper.ignore(name, "of a stage that skip_stages leaves out")


def _leave_filter(mapper: WeightMapper, name: str, gain: int) -> None:
    """Leave a filter of a change of resolution out, which is that of our network."""
    mapper.ignore(name, "the filter that resampling is")
    value = mapper.tensors.get(name)
    line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    if value is not None and not torch.equal(value, gain * torch.outer(line, line)):
        mapper.problems.append(f"{name} is another filter than (1, 3, 3, 1)")
