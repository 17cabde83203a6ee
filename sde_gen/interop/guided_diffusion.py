"""Networks of guided-diffusion and improved-diffusion, with or without classes and learned variances."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from sde_gen.codec.uniform import Uniform
from sde_gen.conditioning.label import Label as ClassLabel
from sde_gen.conditioning.none import Unconditional
from sde_gen.interop import files
from sde_gen.interop.imported import Imported
from sde_gen.interop.recipe import Recipe
from sde_gen.interop.settings import (
    MOST_CLASSES,
    MOST_STEPS,
    choice,
    flag,
    given,
    multipliers,
    plausible,
    real,
    shown,
    whole,
    wholes,
)
from sde_gen.interop.transfer import Transfer
from sde_gen.model.adm import ADM, HeadedAttention, Stage
from sde_gen.model.change import ConvolutionChange, PlainChange
from sde_gen.parametrization.eps import Eps
from sde_gen.parametrization.label import Time
from sde_gen.parametrization.learned_range import LearnedRange
from sde_gen.sde.ddpm import DDPM, cosine_betas, linear_betas

BLOCK = {
    "in_layers.0": "norm_in",
    "in_layers.2": "conv_in",
    "emb_layers.1": "embed",
    "out_layers.0": "norm_out",
    "out_layers.3": "conv_out",
}
"""Their names of the parts of a residual block, and ours."""

EXPECTED = {
    "dims": 2,
    "num_heads_upsample": -1,
    "predict_xstart": False,
}
"""Settings of theirs that our network has in this one way."""


def load(path: Path, config: Mapping[str, Any] | None) -> Imported:
    """Read a file, which holds a state dictionary alone.

    Arguments:
        path: the file.
        config: as :func:`read` wants it.

    Raises:
        ValueError: as :func:`~sde_gen.interop.files.read` and :func:`read`.
    """
    return read(files.tensors(files.read(path)), given(config))


def read(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Imported:
    """Put a network of theirs in our terms: the process is their chain, the label the number of its step.

    Images lie on [-1, 1]. Without a label their networks with classes cannot be asked; here the null class adds nothing
    to the embedding, which no training has seen.

    Source: Dhariwal and Nichol, 2021, arXiv:2105.05233; names and order: guided-diffusion, unet.py.

    Arguments:
        tensors: the state dictionary.
        config: the arguments of their ``UNetModel`` by name, ``attention_resolutions`` being factors of halving as
            there, and of the chain: ``noise_schedule`` (linear or cosine), ``steps`` (1000) and ``rescale_timesteps``.

    Raises:
        ValueError: a setting that our network does not have, or tensors that do not fit; the message names them.
    """
    for key, expected in EXPECTED.items():
        if config.get(key, expected) != expected:
            raise ValueError(f"{key}={shown(config[key])} is not supported; expected {expected!r}")
    channels, width, blocks = (
        whole(config, key) for key in ("in_channels", "model_channels", "num_res_blocks")
    )
    levels = multipliers(config, "channel_mult")
    outputs, rest = divmod(whole(config, "out_channels"), channels)
    if rest or outputs not in (1, 2):
        raise ValueError(
            f"out_channels={config['out_channels']}: expected {channels}, or {2 * channels} with a variance"
        )
    factors = wholes(config, "attention_resolutions", least=0)
    attention = [n for n in range(len(levels)) if 2**n in factors]
    classes = whole(
        {"num_classes": config.get("num_classes") or 0}, "num_classes", least=0, most=MOST_CLASSES
    )
    size = whole(config, "image_size")
    in_blocks, learned_change = (
        flag({"conv_resample": True, **config}, key) for key in ("resblock_updown", "conv_resample")
    )
    change = ConvolutionChange if learned_change else PlainChange
    settings: dict[str, Any] = {
        "shape": [channels, size, size],
        "width": width,
        "multipliers": levels,
        "blocks": blocks,
        "attention_levels": attention,
        **_heads(config),
        "dropout": real({"dropout": 0.0, **config}, "dropout"),
        "num_classes": classes,
        "outputs": outputs,
        "modulated": flag(config, "use_scale_shift_norm"),
        "change": None if in_blocks else Recipe(change),
    }
    recipe = Recipe(ADM, **settings)
    plausible(tensors, len(levels) * blocks)
    with torch.device("meta"):
        net: ADM = recipe.make()
    moved = Transfer(_with_null_class(tensors), net)
    for ours, theirs in (
        ("embed.0", "time_embed.0"),
        ("embed.2", "time_embed.2"),
        ("stem", "input_blocks.0.0"),
    ):
        moved.layer(ours, theirs)
    if classes:
        moved.move("classes.weight", "label_emb.weight")
    for ours, theirs in _changes(net, in_blocks=in_blocks, learned=learned_change):
        moved.layer(ours, theirs)
    for ours, theirs in _blocks(net, in_blocks=in_blocks):
        for name, mine in BLOCK.items():
            moved.layer(f"{ours}.{mine}", f"{theirs}.{name}")
        if f"{ours}.skip.weight" in moved.needed:
            moved.layer(f"{ours}.skip", f"{theirs}.skip_connection")
    new = flag({"use_new_attention_order": False, **config}, "use_new_attention_order")
    for ours, theirs, heads in _attentions(net):
        _move_attention(moved, ours, theirs, heads=heads, new=new)
    moved.layer("norm", "out.0")
    moved.layer("out", "out.2")
    steps = whole({"steps": 1000, **config}, "steps", most=MOST_STEPS)
    unit = 1000 / steps if flag({"rescale_timesteps": False, **config}, "rescale_timesteps") else 1.0
    eps = Recipe(Eps, label=Recipe(Time, scale=unit * steps, offset=-unit))
    labels = Recipe(ClassLabel, classes=classes, dropout=0.0)
    schedule = choice({"noise_schedule": "linear", **config}, "noise_schedule", "linear", "cosine")
    betas = _betas(schedule, steps)
    return Imported(
        config={
            "model": recipe.config(),
            "sde": Recipe(DDPM, betas=betas).config(),
            "parametrization": (Recipe(LearnedRange, mean=eps) if outputs == 2 else eps).config(),
            "codec": Recipe(Uniform, levels=256, low=-1.0, high=1.0).config(),
            "conditioning": (labels if classes else Recipe(Unconditional)).config(),
        },
        shape=(channels, size, size),
        levels=256,
        classes=classes,
        state=moved.finish(),
        unused=moved.unused,
    )


def _stages(net: ADM) -> Iterator[tuple[str, str, Stage]]:
    """Our names of the stages, theirs, and the stages."""
    for number, stage in enumerate(net.down):
        yield f"down.{number}", f"input_blocks.{number + 1}", cast(Stage, stage)
    for number, stage in enumerate(net.up):
        yield f"up.{number}", f"output_blocks.{number}", cast(Stage, stage)


def _changes(net: ADM, *, in_blocks: bool, learned: bool) -> Iterator[tuple[str, str]]:
    """Our names of the convolutions that change the resolution, and theirs."""
    if in_blocks or not learned:
        return
    for ours, theirs, stage in _stages(net):
        if not hasattr(stage.block, "norm_in"):
            yield f"{ours}.block.block", f"{theirs}.0.op"
        if len(stage.finer):
            yield f"{ours}.finer.0.block", f"{theirs}.{1 + hasattr(stage.attention, 'heads')}.conv"


def _blocks(net: ADM, *, in_blocks: bool) -> Iterator[tuple[str, str]]:
    """Our names of the residual blocks, and theirs."""
    for ours, theirs, stage in _stages(net):
        if hasattr(stage.block, "norm_in"):
            yield f"{ours}.block", f"{theirs}.0"
        if in_blocks and len(stage.finer):
            yield f"{ours}.finer.0", f"{theirs}.{1 + hasattr(stage.attention, 'heads')}"
    yield "middle.0.block", "middle_block.0"
    yield "middle.1.block", "middle_block.2"


def _attentions(net: ADM) -> Iterator[tuple[str, str, int]]:
    """Our names of the attentions, theirs, and the number of heads."""
    for ours, theirs, stage in _stages(net):
        if hasattr(stage.attention, "heads"):
            yield f"{ours}.attention", f"{theirs}.1", cast(HeadedAttention, stage.attention).heads
    yield (
        "middle.0.attention",
        "middle_block.1",
        cast(HeadedAttention, cast(Stage, net.middle[0]).attention).heads,
    )


def _move_attention(moved: Transfer, ours: str, theirs: str, *, heads: int, new: bool) -> None:
    """Move an attention: queries, keys and values of all heads here and in their new order, head by head in the old."""

    def ordered(x: Tensor) -> Tensor:
        return x if new else x.reshape(heads, 3, -1, *x.shape[1:]).transpose(0, 1).flatten(0, 2)

    moved.layer(f"{ours}.norm", f"{theirs}.norm")
    moved.move(f"{ours}.qkv.weight", f"{theirs}.qkv.weight", lambda w: ordered(w)[..., None])
    moved.move(f"{ours}.qkv.bias", f"{theirs}.qkv.bias", ordered)
    moved.layer(f"{ours}.out", f"{theirs}.proj_out", lambda w: w[..., None])


def _with_null_class(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A row of zeros after the classes."""
    rows = tensors.get("label_emb.weight")
    if rows is None or rows.ndim != 2:
        return dict(tensors)
    return {**tensors, "label_emb.weight": torch.cat([rows, torch.zeros_like(rows[:1])])}


def _heads(config: Mapping[str, Any]) -> dict[str, int]:
    """Channels of a head, or the number of heads."""
    said = {"num_head_channels": -1, "num_heads": 1, **config}
    if said["num_head_channels"] != -1:
        return {"head_channels": whole(said, "num_head_channels")}
    return {"heads": whole(said, "num_heads")}


def _betas(schedule: str, steps: int) -> Recipe:
    if schedule == "linear":
        scale = 1000 / steps
        return Recipe(linear_betas, steps=steps, beta_min=scale * 1e-4, beta_max=scale * 0.02)
    return Recipe(cosine_betas, steps=steps)
