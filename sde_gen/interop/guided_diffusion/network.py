"""Parts shared by the networks of guided-diffusion: encoder, middle block and chain."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from torch import Tensor

from sde_gen.denoiser.parametrization.label import Time
from sde_gen.interop.converted_model import ObjectSpec
from sde_gen.interop.settings import MOST_STEPS, choice, flag, multipliers, real, shown, whole, wholes
from sde_gen.interop.weight_mapper import WeightMapper
from sde_gen.model.adm.adm import ADM
from sde_gen.model.adm.blocks import ADMStage, HeadedAttention
from sde_gen.model.adm.level_resample import ConvResample, PlainResample
from sde_gen.model.classifier.adm_encoder import ADMEncoder
from sde_gen.sde.ddpm import DDPM, cosine_betas, linear_betas

BLOCK = {
    "in_layers.0": "norm_in",
    "in_layers.2": "conv_in",
    "emb_layers.1": "embed",
    "out_layers.0": "norm_out",
    "out_layers.3": "conv_out",
}
"""Parts of a residual block: names in guided-diffusion and here."""


ASSUMED: dict[str, Any] = {
    "dims": 2,
    "conv_resample": True,
    "use_new_attention_order": False,
    "dropout": 0.0,
    "num_heads": 1,
    "num_head_channels": -1,
    "noise_schedule": "linear",
    "steps": 1000,
    "rescale_timesteps": False,
}
"""Defaults of the constructors and of the chain."""


class Body:
    """Settings of a network converted to keywords of sde_gen.

    Arguments:
        config: arguments of the constructor by name.

    Attributes:
        repeated: lower bound of the number of residual blocks.

    Raises:
        ValueError: a setting is missing or not supported.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        config = {**ASSUMED, **config}
        if (dims := config["dims"]) != 2:
            raise ValueError(f"dims={shown(dims)} is not supported; expected 2")
        self.channels, self.size = whole(config, "in_channels"), whole(config, "image_size")
        self.in_blocks, self.learned = flag(config, "resblock_updown"), flag(config, "conv_resample")
        self.new_order = flag(config, "use_new_attention_order")
        width, factors = whole(config, "model_channels"), wholes(config, "attention_resolutions", minimum=0)
        levels = multipliers(config, "channel_mult")
        attention = [n for n in range(len(levels)) if 2**n in factors]
        blocks = whole(config, "num_res_blocks")
        self.repeated = blocks * len(levels)
        change = ObjectSpec(ConvResample if self.learned else PlainResample)
        self.keywords: dict[str, Any] = {
            "shape": [self.channels, self.size, self.size],
            "width": width,
            "multipliers": levels,
            "blocks": blocks,
            "attention_levels": attention,
            **_heads(config, [int(width * levels[n]) for n in {*attention, len(levels) - 1}]),
            "dropout": real(config, "dropout"),
            "modulated": flag(config, "use_scale_shift_norm"),
            "change": None if self.in_blocks else change,
        }

    def check_file(self, tensors: Mapping[str, Tensor], *, images: bool) -> None:
        """Raise ValueError if the file contains another type of network, such as a classifier."""
        stem = tensors.get("input_blocks.0.0.weight")
        if stem is not None and stem.ndim == 4 and stem.shape[1] == 2 * self.channels:
            raise ValueError(
                "the file contains a super-resolution network (SuperResModel), which is not supported"
            )
        if stem is not None and images != any(name.startswith("output_blocks.") for name in tensors):
            holds, other = ("a classifier", "_classifier") if images else ("a network of images", "")
            raise ValueError(f"the file holds {holds}: read it with from=guided_diffusion{other}")

    def map_weights(self, mapper: WeightMapper, net: ADM | ADMEncoder, up: Iterable[Any] = ()) -> None:
        """Copy embedding, stem, encoder, middle block and, if present, decoder."""
        for target, source in (
            ("embed.0", "time_embed.0"),
            ("embed.2", "time_embed.2"),
            ("stem", "input_blocks.0.0"),
        ):
            mapper.copy_layer(target, source)
        stages = list(_stages(net.down, up))
        for target, source in self._changes(stages):
            mapper.copy_layer(target, source)
        for target, source in self._blocks(stages):
            for name, part in BLOCK.items():
                mapper.copy_layer(f"{target}.{part}", f"{source}.{name}")
            if f"{target}.skip.weight" in mapper.needed:
                mapper.copy_layer(f"{target}.skip", f"{source}.skip_connection")
        for target, source, stage in stages:
            if hasattr(stage.attention, "heads"):
                self._attention(mapper, f"{target}.attention", f"{source}.1", stage)
        self._attention(mapper, "middle.0.attention", "middle_block.1", cast(ADMStage, net.middle[0]))

    def _changes(self, stages: list[tuple[str, str, ADMStage]]) -> Iterator[tuple[str, str]]:
        """Yield name and original name of the convolutions that change the resolution."""
        if self.in_blocks or not self.learned:
            return
        for target, source, stage in stages:
            if not hasattr(stage.block, "norm_in"):
                yield f"{target}.block.block", f"{source}.0.op"
            if len(stage.finer):
                yield f"{target}.finer.0.block", f"{source}.{1 + hasattr(stage.attention, 'heads')}.conv"

    def _blocks(self, stages: list[tuple[str, str, ADMStage]]) -> Iterator[tuple[str, str]]:
        """Yield name and original name of the residual blocks."""
        for target, source, stage in stages:
            if hasattr(stage.block, "norm_in"):
                yield f"{target}.block", f"{source}.0"
            if self.in_blocks and len(stage.finer):
                yield f"{target}.finer.0", f"{source}.{1 + hasattr(stage.attention, 'heads')}"
        yield "middle.0.block", "middle_block.0"
        yield "middle.1.block", "middle_block.2"

    def _attention(self, mapper: WeightMapper, target: str, source: str, stage: ADMStage) -> None:
        """Copy an attention block; with the old order queries, keys and values are grouped by head."""
        heads = cast(HeadedAttention, stage.attention).heads

        def ordered(x: Tensor) -> Tensor:
            return (
                x if self.new_order else x.reshape(heads, 3, -1, *x.shape[1:]).transpose(0, 1).flatten(0, 2)
            )

        mapper.copy_layer(f"{target}.norm", f"{source}.norm")
        mapper.copy(f"{target}.qkv.weight", f"{source}.qkv.weight", lambda w: ordered(w)[..., None])
        mapper.copy(f"{target}.qkv.bias", f"{source}.qkv.bias", ordered)
        mapper.copy_layer(f"{target}.out", f"{source}.proj_out", lambda w: w[..., None])


def chain(config: Mapping[str, Any]) -> tuple[ObjectSpec, ObjectSpec]:
    """Return process and noise label, which is the step number from 0, or rescaled to 1000 steps."""
    config = {**ASSUMED, **config}
    steps = whole(config, "steps", maximum=MOST_STEPS)
    unit = 1000 / steps if flag(config, "rescale_timesteps") else 1.0
    if choice(config, "noise_schedule", "linear", "cosine") == "cosine":
        betas = ObjectSpec(cosine_betas, steps=steps)
    else:
        scale = 1000 / steps
        betas = ObjectSpec(linear_betas, steps=steps, beta_min=scale * 1e-4, beta_max=scale * 0.02)
    return ObjectSpec(DDPM, betas=betas), ObjectSpec(Time, scale=unit * steps, offset=-unit)


def _stages(down: Iterable[Any], up: Iterable[Any]) -> Iterator[tuple[str, str, ADMStage]]:
    """Yield name, original name and stage of all stages."""
    for number, stage in enumerate(down):
        yield f"down.{number}", f"input_blocks.{number + 1}", stage
    for number, stage in enumerate(up):
        yield f"up.{number}", f"output_blocks.{number}", stage


def _heads(config: Mapping[str, Any], attended: list[int]) -> dict[str, int]:
    """Return the keyword for the channels per head or the number of heads."""
    if config["num_head_channels"] == -1:
        return {"heads": whole(config, "num_heads")}
    size = whole(config, "num_head_channels")
    if odd := [channels for channels in attended if channels % size]:
        raise ValueError(
            f"num_head_channels={size} does not divide the {odd[0]} channels that attention sees"
        )
    return {"head_channels": size}
