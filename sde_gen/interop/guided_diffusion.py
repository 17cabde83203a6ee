"""Networks of guided-diffusion: ADM, with or without classes and learned variances."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from sde_gen.interop import files
from sde_gen.interop.imported import Imported
from sde_gen.interop.settings import given, need
from sde_gen.interop.transfer import Transfer
from sde_gen.model.adm import ADM, HeadedAttention, Stage

BLOCK = {
    "in_layers.0": "norm_in",
    "in_layers.2": "conv_in",
    "emb_layers.1": "embed",
    "out_layers.0": "norm_out",
    "out_layers.3": "conv_out",
}
"""Their names of the parts of a residual block, and ours."""

EXPECTED = {
    "use_scale_shift_norm": True,
    "resblock_updown": True,
    "dims": 2,
    "num_heads_upsample": -1,
    "predict_xstart": False,
    "rescale_timesteps": False,
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
            there, and of the chain: ``noise_schedule`` (linear or cosine) and ``steps`` (1000).

    Raises:
        ValueError: a setting that our network does not have, or tensors that do not fit; the message names them.
    """
    for key, expected in EXPECTED.items():
        if config.get(key, expected) != expected:
            raise ValueError(f"{key}={config[key]!r} is not supported; expected {expected!r}")
    channels, multipliers, width = (
        int(need(config, "in_channels")),
        list(need(config, "channel_mult")),
        int(need(config, "model_channels")),
    )
    outputs, rest = divmod(int(need(config, "out_channels")), channels)
    if rest or outputs not in (1, 2):
        raise ValueError(
            f"out_channels={config['out_channels']}: expected {channels}, or {2 * channels} with a variance"
        )
    attention = [n for n in range(len(multipliers)) if 2**n in need(config, "attention_resolutions")]
    classes, size = int(config.get("num_classes") or 0), int(need(config, "image_size"))
    settings: dict[str, Any] = {
        "shape": [channels, size, size],
        "width": width,
        "multipliers": multipliers,
        "blocks": int(need(config, "num_res_blocks")),
        "attention_levels": attention,
        "head_channels": _head_channels(
            config, [width * multipliers[n] for n in {*attention, len(multipliers) - 1}]
        ),
        "dropout": float(config.get("dropout", 0.0)),
        "num_classes": classes,
        "outputs": outputs,
    }
    with torch.device("meta"):
        net = ADM(**settings)
    moved = Transfer(_with_null_class(tensors), net)
    for ours, theirs in (
        ("embed.0", "time_embed.0"),
        ("embed.2", "time_embed.2"),
        ("stem", "input_blocks.0.0"),
    ):
        moved.layer(ours, theirs)
    if classes:
        moved.move("classes.weight", "label_emb.weight")
    for ours, theirs in _blocks(net):
        for name, mine in BLOCK.items():
            moved.layer(f"{ours}.{mine}", f"{theirs}.{name}")
        if f"{ours}.skip.weight" in moved.needed:
            moved.layer(f"{ours}.skip", f"{theirs}.skip_connection")
    new = bool(config.get("use_new_attention_order"))
    for ours, theirs, heads in _attentions(net):
        _move_attention(moved, ours, theirs, heads=heads, new=new)
    moved.layer("norm", "out.0")
    moved.layer("out", "out.2")
    steps = int(config.get("steps", 1000))
    eps = {
        "_target_": "sde_gen.parametrization.eps.Eps",
        "label": {"_target_": "sde_gen.parametrization.label.Time", "scale": float(steps), "offset": -1.0},
    }
    learned = {"_target_": "sde_gen.parametrization.learned_range.LearnedRange", "mean": eps}
    labels = {"_target_": "sde_gen.conditioning.label.Label", "classes": classes, "dropout": 0.0}
    return Imported(
        config={
            "model": {"_target_": "sde_gen.model.adm.ADM", **settings},
            "sde": {
                "_target_": "sde_gen.sde.ddpm.DDPM",
                "betas": _betas(str(config.get("noise_schedule", "linear")), steps),
            },
            "parametrization": learned if outputs == 2 else eps,
            "codec": {"_target_": "sde_gen.codec.uniform.Uniform", "levels": 256, "low": -1.0, "high": 1.0},
            "conditioning": labels if classes else {"_target_": "sde_gen.conditioning.none.Unconditional"},
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


def _blocks(net: ADM) -> Iterator[tuple[str, str]]:
    """Our names of the residual blocks, and theirs."""
    for ours, theirs, stage in _stages(net):
        yield f"{ours}.block", f"{theirs}.0"
        if len(stage.finer):
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


def _head_channels(config: Mapping[str, Any], attending: list[int]) -> int:
    """Channels of a head; a number of heads will do where all levels that attend are as wide."""
    if int(config.get("num_head_channels", -1)) > 0:
        return int(config["num_head_channels"])
    heads = int(config.get("num_heads", 1))
    if (len(set(attending)) > 1 and heads > 1) or any(channels % heads for channels in attending):
        raise ValueError(
            f"num_heads={heads} on levels of {sorted(set(attending))} channels is not supported; give num_head_channels"
        )
    return max(attending) // heads


def _betas(schedule: str, steps: int) -> dict[str, Any]:
    if schedule == "linear":
        scale = 1000 / steps
        ends = {"beta_min": scale * 1e-4, "beta_max": scale * 0.02}
        return {"_target_": "sde_gen.sde.ddpm.linear_betas", "steps": steps, **ends}
    if schedule == "cosine":
        return {"_target_": "sde_gen.sde.ddpm.cosine_betas", "steps": steps}
    raise ValueError(f"noise_schedule={schedule!r} is not supported; expected linear or cosine")
