"""What the networks of guided-diffusion share: the way down, the middle, and the chain they were trained on."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from torch import Tensor

from sde_gen.denoiser.parametrization.label import Time
from sde_gen.interop.object_spec import ObjectSpec
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
"""Their names of the parts of a residual block, and ours."""


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
"""What their constructors and their chain assume."""


class Body:
    """Their network of some arguments of its constructor, in our terms.

    Arguments:
        config: those arguments by name.

    Attributes:
        repeated: number of residual blocks, at least.

    Raises:
        ValueError: a setting is missing, or one that our networks do not have.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        config = {**ASSUMED, **config}
        if (dims := config["dims"]) != 2:
            raise ValueError(f"dims={shown(dims)} is not supported; expected 2")
        self.channels, self.size = whole(config, "in_channels"), whole(config, "image_size")
        self.in_blocks, self.learned = flag(config, "resblock_updown"), flag(config, "conv_resample")
        self.new_order = flag(config, "use_new_attention_order")
        width, factors = whole(config, "model_channels"), wholes(config, "attention_resolutions", least=0)
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
        """Say so where the file holds another of their networks: of images, or of classes."""
        stem = tensors.get("input_blocks.0.0.weight")
        if stem is not None and stem.ndim == 4 and stem.shape[1] == 2 * self.channels:
            raise ValueError(
                "the file holds a super-resolution network (SuperResModel), which sees a second image; it is not read"
            )
        if stem is not None and images != any(name.startswith("output_blocks.") for name in tensors):
            holds, other = ("a classifier", "_classifier") if images else ("a network of images", "")
            raise ValueError(f"the file holds {holds}: read it with from=guided_diffusion{other}")

    def move(self, moved: WeightMapper, net: ADM | ADMEncoder, up: Iterable[Any] = ()) -> None:
        """Move embedding, stem, the way down, the middle and, where there is one, the way up."""
        for ours, theirs in (
            ("embed.0", "time_embed.0"),
            ("embed.2", "time_embed.2"),
            ("stem", "input_blocks.0.0"),
        ):
            moved.layer(ours, theirs)
        stages = list(_stages(net.down, up))
        for ours, theirs in self._changes(stages):
            moved.layer(ours, theirs)
        for ours, theirs in self._blocks(stages):
            for name, mine in BLOCK.items():
                moved.layer(f"{ours}.{mine}", f"{theirs}.{name}")
            if f"{ours}.skip.weight" in moved.needed:
                moved.layer(f"{ours}.skip", f"{theirs}.skip_connection")
        for ours, theirs, stage in stages:
            if hasattr(stage.attention, "heads"):
                self._attention(moved, f"{ours}.attention", f"{theirs}.1", stage)
        self._attention(moved, "middle.0.attention", "middle_block.1", cast(ADMStage, net.middle[0]))

    def _changes(self, stages: list[tuple[str, str, ADMStage]]) -> Iterator[tuple[str, str]]:
        """Our names of the convolutions that change the resolution, and theirs."""
        if self.in_blocks or not self.learned:
            return
        for ours, theirs, stage in stages:
            if not hasattr(stage.block, "norm_in"):
                yield f"{ours}.block.block", f"{theirs}.0.op"
            if len(stage.finer):
                yield f"{ours}.finer.0.block", f"{theirs}.{1 + hasattr(stage.attention, 'heads')}.conv"

    def _blocks(self, stages: list[tuple[str, str, ADMStage]]) -> Iterator[tuple[str, str]]:
        """Our names of the residual blocks, and theirs."""
        for ours, theirs, stage in stages:
            if hasattr(stage.block, "norm_in"):
                yield f"{ours}.block", f"{theirs}.0"
            if self.in_blocks and len(stage.finer):
                yield f"{ours}.finer.0", f"{theirs}.{1 + hasattr(stage.attention, 'heads')}"
        yield "middle.0.block", "middle_block.0"
        yield "middle.1.block", "middle_block.2"

    def _attention(self, moved: WeightMapper, ours: str, theirs: str, stage: ADMStage) -> None:
        """Queries, keys and values of all heads here and in their new order, head by head in the old."""
        heads = cast(HeadedAttention, stage.attention).heads

        def ordered(x: Tensor) -> Tensor:
            return (
                x if self.new_order else x.reshape(heads, 3, -1, *x.shape[1:]).transpose(0, 1).flatten(0, 2)
            )

        moved.layer(f"{ours}.norm", f"{theirs}.norm")
        moved.move(f"{ours}.qkv.weight", f"{theirs}.qkv.weight", lambda w: ordered(w)[..., None])
        moved.move(f"{ours}.qkv.bias", f"{theirs}.qkv.bias", ordered)
        moved.layer(f"{ours}.out", f"{theirs}.proj_out", lambda w: w[..., None])


def chain(config: Mapping[str, Any]) -> tuple[ObjectSpec, ObjectSpec]:
    """The process, and the label of a time, the number of its step: from 0, or as if there were 1000 of them."""
    config = {**ASSUMED, **config}
    steps = whole(config, "steps", most=MOST_STEPS)
    unit = 1000 / steps if flag(config, "rescale_timesteps") else 1.0
    if choice(config, "noise_schedule", "linear", "cosine") == "cosine":
        betas = ObjectSpec(cosine_betas, steps=steps)
    else:
        scale = 1000 / steps
        betas = ObjectSpec(linear_betas, steps=steps, beta_min=scale * 1e-4, beta_max=scale * 0.02)
    return ObjectSpec(DDPM, betas=betas), ObjectSpec(Time, scale=unit * steps, offset=-unit)


def _stages(down: Iterable[Any], up: Iterable[Any]) -> Iterator[tuple[str, str, ADMStage]]:
    """Our names of the stages, theirs, and the stages."""
    for number, stage in enumerate(down):
        yield f"down.{number}", f"input_blocks.{number + 1}", stage
    for number, stage in enumerate(up):
        yield f"up.{number}", f"output_blocks.{number}", stage


def _heads(config: Mapping[str, Any], attended: list[int]) -> dict[str, int]:
    """Channels of a head, or the number of heads."""
    if config["num_head_channels"] == -1:
        return {"heads": whole(config, "num_heads")}
    size = whole(config, "num_head_channels")
    if odd := [channels for channels in attended if channels % size]:
        raise ValueError(
            f"num_head_channels={size} does not divide the {odd[0]} channels that attention sees"
        )
    return {"head_channels": size}
