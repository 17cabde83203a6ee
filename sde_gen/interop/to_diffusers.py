"""A network of ours as a folder of diffusers, which its own pipelines load and sample from."""

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from sde_gen.interop.transfer import Return
from sde_gen.interop.unet2d import DDPMLayout

HO = "sde_gen.model.ho.HoUNet"
PREDICTIONS = {"Eps": "epsilon", "X0": "sample", "V": "v_prediction"}


def save(config: Mapping[str, Any], shape: tuple[int, ...], state: Mapping[str, Tensor], out: Path) -> None:
    """Write ``model_index.json``, ``unet`` and ``scheduler``; the folder appears whole or not at all.

    The chain becomes a list of betas, and nothing is clipped: ``DDPMPipeline`` then draws what ``ancestral`` draws at
    the chain's steps, and ``DDIMPipeline`` what ``ddim`` does.

    Arguments:
        config: the run's ``model``, ``sde``, ``parametrization``, ``codec`` and ``conditioning``, each a ``_target_``
            with its keywords; and ``betas``, the numbers of its chain.
        shape: event shape (C, H, W).
        state: weights by the names of our network.
        out: the folder to make.

    Raises:
        ValueError: the network, its process or its label is none that diffusers has; the message says what would do.
    """
    model = dict(config["model"])
    if model["_target_"] != HO:
        raise ValueError(
            f"{model['_target_'].rpartition('.')[2]} has no counterpart among the networks of diffusers; "
            "train with model=ho, or export a network that was imported from there"
        )
    scheduler = _scheduler(config)
    unet = _unet(model, shape, classes=int(config["conditioning"].get("classes") or 0))
    back = Return(state)
    DDPMLayout(unet).move(back)
    tensors = back.finish()
    index = {
        "_class_name": "DDPMPipeline",
        "_diffusers_version": "0.30.0",
        "scheduler": ["diffusers", "DDPMScheduler"],
        "unet": ["diffusers", "UNet2DModel"],
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
    try:
        for part in ("unet", "scheduler"):
            (made / part).mkdir()
        safetensors.torch.save_file(
            tensors, made / "unet" / "diffusion_pytorch_model.safetensors", {"format": "pt"}
        )
        for place, said in (
            ("unet/config.json", unet),
            ("scheduler/scheduler_config.json", scheduler),
            ("model_index.json", index),
        ):
            (made / place).write_text(json.dumps(said, indent=1) + "\n")
        made.chmod(0o755)
        made.rename(out)
    except OSError as error:
        shutil.rmtree(made, ignore_errors=True)
        raise ValueError(f"{out} could not be written ({error})") from error


def _unet(model: Mapping[str, Any], shape: tuple[int, ...], classes: int) -> dict[str, Any]:
    """The arguments of their constructor."""
    if int(model["outputs"]) != 1:
        raise ValueError(
            f"outputs={model['outputs']}: pipelines of diffusers take networks without a variance"
        )
    norms, change = dict(model["norms"]), str(model["change"]["_target_"]).rpartition(".")[2]
    if not str(norms["_target_"]).endswith(".Fixed") or change != "ConvolutionChange":
        raise ValueError(f"norms={norms['_target_']}, change={change}: expected Fixed and ConvolutionChange")
    embedding, resampler = (_kind(model[key]) for key in ("embedding", "resampler"))
    to_the_last = embedding in (None, "Positional")
    levels, attention = len(model["multipliers"]), set(model["attention_levels"])
    down = ["AttnDownBlock2D" if level in attention else "DownBlock2D" for level in range(levels)]
    up = ["AttnUpBlock2D" if level in attention else "UpBlock2D" for level in reversed(range(levels))]
    return {
        "_class_name": "UNet2DModel",
        "_diffusers_version": "0.30.0",
        "sample_size": shape[1] if shape[1] == shape[2] else list(shape[1:]),
        "in_channels": shape[0],
        "out_channels": shape[0],
        "center_input_sample": False,
        "time_embedding_type": "positional",
        "freq_shift": int(to_the_last),
        "flip_sin_to_cos": not to_the_last,
        "down_block_types": down,
        "up_block_types": up,
        "block_out_channels": [int(model["width"]) * int(m) for m in model["multipliers"]],
        "layers_per_block": int(model["blocks"]),
        "mid_block_scale_factor": 1,
        "downsample_padding": int(resampler == "CentredBox"),
        "dropout": float(model["dropout"]),
        "act_fn": "silu",
        "attention_head_dim": model["head_channels"],
        "norm_num_groups": int(norms["groups"]),
        "norm_eps": float(norms["eps"]),
        "add_attention": bool(model["middle_attention"]),
        "num_class_embeds": classes or None,
    }


def _scheduler(config: Mapping[str, Any]) -> dict[str, Any]:
    """The chain, what the output means, and that images lie on [-1, 1]."""
    sde, parametrization, codec = (config[key] for key in ("sde", "parametrization", "codec"))
    if _kind(sde) != "DDPM":
        raise ValueError(
            f"the process {_kind(sde)} is no chain; schedulers of diffusers have chains: train with sde=ddpm"
        )
    meaning, label = _kind(parametrization), parametrization.get("label") or {}
    if meaning not in PREDICTIONS:
        raise ValueError(
            f"the parametrization {meaning} is none of {', '.join(PREDICTIONS)}, which diffusers knows"
        )
    if (codec.get("low"), codec.get("high")) != (-1.0, 1.0):
        raise ValueError(
            "the data do not lie on [-1, 1], as pipelines of diffusers have it: train with codec=uniform"
        )
    betas = [float(beta) for beta in config["betas"]]
    if _kind(label) != "Time" or (label.get("scale"), label.get("offset")) != (float(len(betas)), -1.0):
        raise ValueError(
            f"the network is told another label than the chain's step: train with a label Time of scale {len(betas)} "
            "and offset -1"
        )
    return {
        "_class_name": "DDPMScheduler",
        "_diffusers_version": "0.30.0",
        "num_train_timesteps": len(betas),
        "trained_betas": betas,
        "prediction_type": PREDICTIONS[meaning],
        "variance_type": "fixed_small",
        "clip_sample": False,
    }


def _kind(node: Any) -> str | None:
    return None if node is None else str(node["_target_"]).rpartition(".")[2]
