"""Export of a network to a diffusers pipeline folder."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from sde_gen.interop.diffusers import to_unet2d
from sde_gen.interop.diffusers.unet2d import UNet2DLayout
from sde_gen.interop.diffusers.unet2d_plain import ADMLayout, DDPMLayout
from sde_gen.interop.diffusers.unet2d_skip import UNet2DSkipLayout
from sde_gen.interop.weight_mapper import InverseWeightMapper
from sde_gen.model.adm.adm import ADM
from sde_gen.model.unet.base import UNet
from sde_gen.model.unet.ddpm_unet import DDPMUNet
from sde_gen.utils.atomic import atomic_directory, put
from sde_gen.utils.tensor_file import put_tensors

PREDICTIONS = {"Eps": "epsilon", "X0": "sample", "V": "v_prediction"}
VERSION = "0.30.0"
"""Version of diffusers that defines the settings."""


class PipelineExport(NamedTuple):
    """Export of a class of networks to diffusers.

    Attributes:
        net: class of the network.
        unet: map from the run's configuration, shape and number of classes to the arguments of UNet2DModel.
        layout: mapping of the tensors.
        scheduler: map from the run's configuration to the arguments of the scheduler.
        pipeline: name of the pipeline.
        sign: factor of the last convolutions.
    """

    net: type
    unet: Callable[[Mapping[str, Any], tuple[int, ...], int], dict[str, Any]]
    layout: Callable[[Mapping[str, Any]], UNet2DLayout]
    scheduler: Callable[[Mapping[str, Any]], dict[str, Any]]
    pipeline: str
    sign: float = 1.0


def save(config: Mapping[str, Any], shape: tuple[int, ...], state: Mapping[str, Tensor], out: Path) -> None:
    """Write ``model_index.json``, ``unet`` and ``scheduler`` atomically.

    The chain is exported as a list of betas without clipping: ``DDPMPipeline`` then samples like ``ancestral`` at the
    chain's steps, and ``DDIMPipeline`` like ``ddim``. For VE, ``ScoreSdeVePipeline`` without its corrector samples like
    ``reverse_diffusion``.

    Arguments:
        config: the run's ``model``, ``sde``, ``parametrization``, ``codec`` and ``conditioning``, each a ``_target_``
            with its keywords; and ``betas``, the values of the chain.
        shape: event shape (C, H, W).
        state: weights by name.
        out: the folder to create.

    Raises:
        ValueError: diffusers does not support the network, process or label; the message names what is supported.
    """
    target = str(config["model"]["_target_"])
    if target not in KINDS:
        raise ValueError(
            f"{target.rpartition('.')[2]} has no counterpart among the networks of diffusers; "
            "train with model=ho or model=adm, or export a network that was imported from there"
        )
    kind = KINDS[target]
    config = {**config, "model": to_unet2d.filled(kind.net, config["model"])}
    scheduler = kind.scheduler(config)
    unet = kind.unet(config, shape, int(config["conditioning"].get("classes") or 0))
    layout = kind.layout(unet)
    turned = {f"{head}.{part}" for head in layout.output_layers() for part in ("weight", "bias")}
    back = InverseWeightMapper(
        {name: kind.sign * value if name in turned else value for name, value in state.items()}
    )
    layout.map_weights(back)
    tensors = back.finish()
    index = {
        "_class_name": kind.pipeline,
        "_diffusers_version": VERSION,
        "scheduler": ["diffusers", scheduler["_class_name"]],
        "unet": ["diffusers", "UNet2DModel"],
    }
    with atomic_directory(out) as made:
        for part in ("unet", "scheduler"):
            (made / part).mkdir()
        put_tensors(made / "unet" / "diffusion_pytorch_model.safetensors", tensors, {"format": "pt"})
        for place, settings in (
            ("unet/config.json", unet),
            ("scheduler/scheduler_config.json", scheduler),
            ("model_index.json", index),
        ):
            put(
                made / place,
                (json.dumps({"_diffusers_version": VERSION, **settings}, indent=1) + "\n").encode(),
            )


def _chain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scheduler of a discrete chain, for images on [-1, 1]."""
    sde, parametrization, codec = (config[key] for key in ("sde", "parametrization", "codec"))
    if _kind(sde) != "DDPM":
        raise ValueError(
            f"the process {_kind(sde)} is not a discrete chain, which schedulers of diffusers need: train with sde=ddpm"
        )
    learned = _kind(parametrization) == "LearnedVariance"
    if learned != (config["model"]["outputs"] == 2):
        raise ValueError(
            f"outputs={config['model']['outputs']} of {_kind(parametrization)}: expected 2 of LearnedVariance, and "
            "1 otherwise"
        )
    mean = parametrization["mean"] if learned else parametrization
    output, label = _kind(mean), mean.get("label") or {}
    if output not in PREDICTIONS:
        raise ValueError(
            f"the parametrization {output} is not supported by diffusers, which has {', '.join(PREDICTIONS)}"
        )
    _check_data(codec, -1.0)
    betas = [float(beta) for beta in config["betas"]]
    if _kind(label) != "Time" or (label.get("scale"), label.get("offset")) != (float(len(betas)), -1.0):
        raise ValueError(
            f"the noise label is not the chain's step: train with a label Time of scale {len(betas)} "
            "and offset -1"
        )
    return {
        "_class_name": "DDPMScheduler",
        "num_train_timesteps": len(betas),
        "trained_betas": betas,
        "prediction_type": PREDICTIONS[output],
        "variance_type": "learned_range" if learned else "fixed_small",
        "clip_sample": False,
    }


def _exploding(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scheduler of VE with the label log(sigma), for data on [0, 1], or [-1, 1] with centered input."""
    sde, parametrization, codec = (config[key] for key in ("sde", "parametrization", "codec"))
    if _kind(sde) != "VE":
        raise ValueError(f"the process of a network with skip blocks is {_kind(sde)}; expected VE")
    label = parametrization.get("label") or {}
    unit = label.get("unit")
    if _kind(parametrization) != "Eps" or _kind(label) != "LogRatio" or unit not in (1.0, 2.0):
        raise ValueError(
            f"the parametrization {_kind(parametrization)} with the label {_kind(label)}: expected Eps and LogRatio of "
            "unit 1 or 2 for a network with skip blocks"
        )
    _check_data(codec, 0.0 if unit == 1.0 else -1.0)
    return {
        "_class_name": "ScoreSdeVeScheduler",
        "num_train_timesteps": 2000,
        "sigma_min": float(sde["sigma_min"]) / unit,
        "sigma_max": float(sde["sigma_max"]) / unit,
        "sampling_eps": float(sde["t_min"]),
    }


KINDS = {
    "sde_gen.model.DDPMUNet": PipelineExport(DDPMUNet, to_unet2d.plain, DDPMLayout, _chain, "DDPMPipeline"),
    "sde_gen.model.ADM": PipelineExport(ADM, to_unet2d.adm, ADMLayout, _chain, "DDPMPipeline"),
    "sde_gen.model.UNet": PipelineExport(
        UNet, to_unet2d.skip, UNet2DSkipLayout, _exploding, "ScoreSdeVePipeline", -1.0
    ),
}
"""Supported networks by class name."""


def _check_data(codec: Mapping[str, Any], low: float) -> None:
    if (codec.get("low"), codec.get("high")) != (low, 1.0):
        raise ValueError(
            f"the data do not lie on [{low:g}, 1], as pipelines of diffusers have it: train with codec=uniform"
        )


def _kind(node: Any) -> str | None:
    return to_unet2d.kind(node)
