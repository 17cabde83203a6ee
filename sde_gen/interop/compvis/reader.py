"""Stable Diffusion 1, 2 and XL in the single file of CompVis and Stability AI, read as a pipeline of diffusers."""

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from sde_gen.interop.compvis import autoencoder, text, unet
from sde_gen.interop.converted_model import ConvertedModel
from sde_gen.interop.diffusers import pipelines
from sde_gen.interop.diffusers.pipeline_folder import TOKENIZER_FILES
from sde_gen.interop.formats import files
from sde_gen.interop.settings import choice, listing, shown, whole
from sde_gen.interop.transformers.folder import POSITIONS
from sde_gen.utils.atomic import put
from sde_gen.utils.tensor_file import put_tensors

NETWORK, AUTOENCODER = "model.diffusion_model.", "first_stage_model."
"""Beginnings of the names of the network and of the autoencoder."""

OLD_BASE_STEPS = 875_000
"""Training step of stable-diffusion-2-base, the only network of its kind that predicts noise."""

WIDE = 1024
"""Features of a token of Stable Diffusion 2."""

CHAIN = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
"""Chain and sampler of all published models (Rombach et al., 2022, arXiv:2112.10752, their configurations)."""

LOW_RESOLUTION = {**CHAIN, "_class_name": "DDPMScheduler", "beta_start": 0.0001, "beta_end": 0.02}
"""Chain by which the upscaler noises the image (``low_scale_config`` of its settings)."""

CHANNELS = 4
"""Channels of the latents."""


def load(
    path: Path, config: Mapping[str, Any] | None = None, *, tokenizer: str | None = None
) -> ConvertedModel:
    """Read a file ``.ckpt`` or ``.safetensors`` with network, autoencoder and encoders of texts.

    Shapes tell the configuration but for the heads of attention, which are those of the published models, and the
    prediction type: Stable Diffusion 2 predicts v unless the file is of the step of its base model. The original
    settings (``v2-inference-v.yaml``, ...) say both; averaged weights (``model_ema``) are left out, as
    diffusers does.

    Source: Rombach et al., 2022, CompVis/stable-diffusion and Stability-AI/stablediffusion, generative-models.

    Arguments:
        path: the file.
        config: content of the original settings; None to take the published models'.
        tokenizer: folder of CLIP's tokenizer (``vocab.json``, ``merges.txt``), which the file lacks.

    Raises:
        ValueError: a part is missing or unknown, or tensors do not fit; the message names it.
    """
    if tokenizer is None:
        raise ValueError(
            "the file has no tokenizer: name a folder with CLIP's vocab.json and merges.txt, from.tokenizer=FOLDER"
        )
    stored = files.read(path)
    whole_file = stored if isinstance(stored, dict) else {}
    state = whole_file.get("state_dict", whole_file)
    state = state if isinstance(state, dict) else {}
    state = {str(name): value for name, value in state.items() if not str(name).endswith(POSITIONS)}
    known = _sections(state)
    scratch = tempfile.TemporaryDirectory(prefix="sde_gen-")
    folder = Path(scratch.name)
    notes = _write(folder, known, _params(config), whole_file.get("global_step"), Path(tokenizer))
    found = pipelines.load(folder)
    return replace(
        found.noted(*notes),
        unused={**found.unused, **_left_out(state)},
        scratch=scratch,
    )


def _sections(state: Mapping[str, Any]) -> dict[str, dict[str, Tensor]]:
    """Return the tensors of the parts, with the beginnings of their names removed.

    Raises:
        ValueError: a part is missing.
    """
    if not any(name.startswith(NETWORK) for name in state):
        raise ValueError(
            f"the file has no tensors {NETWORK}...; it has {listing(state)}: it is not of the single-file layout"
        )
    beginnings = {
        "unet": NETWORK,
        "vae": AUTOENCODER,
        "transformers": "cond_stage_model.transformer.",
        "open_clip": "cond_stage_model.model.",
        **{f"transformers_{n}": f"conditioner.embedders.{n}.transformer." for n in range(2)},
        **{f"open_clip_{n}": f"conditioner.embedders.{n}.model." for n in range(2)},
    }
    return {
        key: files.tensors(part)
        for key, begin in beginnings.items()
        if (
            part := {
                name.removeprefix(begin): value for name, value in state.items() if name.startswith(begin)
            }
        )
    }


def _params(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return ``model.params`` of the original settings, or settings that are given without these names."""
    found: Any = config or {}
    for key in ("model", "params"):
        found = found.get(key, found) if isinstance(found, Mapping) else {}
    return dict(found) if isinstance(found, Mapping) else {}


def _write(
    folder: Path, known: Mapping[str, dict[str, Tensor]], given: Mapping[str, Any], step: Any, tokenizer: Path
) -> tuple[str, ...]:
    """Write a pipeline folder of diffusers; return notes.

    Raises:
        ValueError: parts are missing or do not fit each other.
    """
    if "vae" not in known:
        raise ValueError(f"the file has no tensors {AUTOENCODER}...: it is a network without its autoencoder")
    network = known["unet"]
    large, enlarges = "label_emb.0.0.weight" in network, "label_emb.weight" in network
    encoders = _encoders(known, large)
    prediction, notes = _prediction(network, given, step, "open_clip" in known)
    inner: Any = given.get("unet_config") or {}
    inner = inner.get("params", inner) if isinstance(inner, Mapping) else {}
    scaling = given.get("scale_factor")
    scaling = (
        float(scaling)
        if isinstance(scaling, int | float)
        else 0.13025
        if large
        else 0.08333
        if enlarges
        else 0.18215
    )
    side = given.get("image_size")
    if isinstance(side, bool) or not isinstance(side, int):
        side = 128 if large or enlarges else 96 if prediction == "v_prediction" else 64
    _network(
        folder / "unet",
        network,
        unet.names(network),
        unet.config(network, whole({"image_size": side}, "image_size"), inner),
    )
    vae = {
        name: value.flatten(1) if re.search(r"attn_1\.(q|k|v|proj_out)\.weight", name) else value
        for name, value in known["vae"].items()
    }
    _network(folder / "vae", vae, autoencoder.names(vae), autoencoder.config(vae, scaling))
    for number, (tensors, settings, padding) in encoders.items():
        _put(folder / f"text_encoder{number}", "model.safetensors", tensors, settings)
        _tokenizer(folder / f"tokenizer{number}", tokenizer, padding, settings["max_position_embeddings"])
    (folder / "scheduler").mkdir()
    chain = {"_class_name": "DDIMScheduler", **CHAIN, "prediction_type": prediction}
    put(folder / "scheduler" / "scheduler_config.json", json.dumps(chain).encode())
    inputs = int(network["input_blocks.0.0.weight"].shape[1])
    parts: dict[str, Any] = {
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    parts["scheduler"] = ["diffusers", "DDIMScheduler"]
    for number, (_, settings, _) in encoders.items():
        parts[f"text_encoder{number}"] = ["transformers", settings["architectures"][0]]
        parts[f"tokenizer{number}"] = ["transformers", "CLIPTokenizer"]
    kind = "StableDiffusionInpaintPipeline" if inputs > CHANNELS else "StableDiffusionPipeline"
    if large:
        kind = "StableDiffusionXLPipeline"
    if enlarges:
        kind = "StableDiffusionUpscalePipeline"
        parts["low_res_scheduler"] = ["diffusers", "DDPMScheduler"]
        (folder / "low_res_scheduler").mkdir()
        put(folder / "low_res_scheduler" / "scheduler_config.json", json.dumps(LOW_RESOLUTION).encode())
    index = {"_class_name": kind, "force_zeros_for_empty_prompt": "" in encoders or not large, **parts}
    put(folder / "model_index.json", json.dumps(index).encode())
    return notes


def _encoders(
    known: Mapping[str, dict[str, Tensor]], large: bool
) -> dict[str, tuple[dict[str, Tensor], dict[str, Any], str]]:
    """Return tensors, settings and padding of the encoders of texts, by the end of their name.

    Raises:
        ValueError: there is none.
    """
    end, first = "<|endoftext|>", "!"
    if large:
        found = {}
        if "transformers_0" in known:
            found[""] = (*text.of_transformers(known["transformers_0"]), end)
        second = known.get("open_clip_1", known.get("open_clip_0"))
        if second is None:
            raise ValueError(
                "the file has no tensors conditioner.embedders.*.model...., the second encoder of texts"
            )
        found["_2"] = (*text.of_open_clip(second, penultimate=False), first)
        return found
    if "transformers" in known:
        return {"": (*text.of_transformers(known["transformers"]), end)}
    if "open_clip" in known:
        return {"": (*text.of_open_clip(known["open_clip"], penultimate=True), first)}
    raise ValueError("the file has no tensors cond_stage_model...., the encoder of texts")


def _prediction(
    network: Mapping[str, Tensor], given: Mapping[str, Any], step: Any, open_clip: bool
) -> tuple[str, tuple[str, ...]]:
    """Return the prediction type, with a note where it is a guess."""
    if "parameterization" in given:
        kinds = {"eps": "epsilon", "v": "v_prediction"}
        return kinds[choice(given, "parameterization", *kinds)], ()
    if "prediction_type" in given:
        return choice(given, "prediction_type", "epsilon", "v_prediction"), ()
    if not open_clip:
        return "epsilon", ()
    kind = "epsilon" if step == OLD_BASE_STEPS else "v_prediction"
    return kind, (
        f"the prediction type is taken to be {kind} (training step {shown(step)}); settings=... with the original "
        "configuration says it",
    )


def _network(
    folder: Path, tensors: Mapping[str, Tensor], names: Mapping[str, str], config: Mapping[str, Any]
) -> None:
    """Write a network under the names of diffusers.

    Raises:
        ValueError: a tensor is unknown.
    """
    found = {}
    for name, value in tensors.items():
        target = _renamed(name, names)
        if target is None:
            raise ValueError(f"the {folder.name} has the tensor {name[:80]!r}, which is not known")
        found[target] = value
    kind = "UNet2DConditionModel" if folder.name == "unet" else "AutoencoderKL"
    _put(folder, "diffusion_pytorch_model.safetensors", found, {"_class_name": kind, **config})


def _renamed(name: str, names: Mapping[str, str]) -> str | None:
    """Return a name with its longest known beginning replaced."""
    at = len(name)
    while (at := name.rfind(".", 0, at)) > 0:
        if name[:at] in names:
            return names[name[:at]] + name[at:]
    return None


def _put(folder: Path, name: str, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    folder.mkdir()
    put(folder / "config.json", json.dumps(config).encode())
    put_tensors(folder / name, tensors)


def _tokenizer(folder: Path, source: Path, padding: str, length: int) -> None:
    """Copy the files of a tokenizer, with the word that fills texts up.

    Raises:
        ValueError: there are none.
    """
    there = [source / name for name in TOKENIZER_FILES if (source / name).is_file()]
    if not there:
        raise ValueError(
            f"from.tokenizer={source}: there is no tokenizer; expected a folder with {TOKENIZER_FILES[0]}"
        )
    folder.mkdir()
    for file in there:
        if file.name != "tokenizer_config.json":
            put(folder / file.name, file.read_bytes())
    config = {"pad_token": padding, "model_max_length": length}
    put(folder / "tokenizer_config.json", json.dumps(config).encode())


def _left_out(state: Mapping[str, Any]) -> dict[str, str]:
    """Return what of the file is not read, with the reason."""
    reasons = {
        "model_ema.": "averaged weights",
        "betas": "computed from the settings of the chain",
        "alphas_": "computed from the settings of the chain",
        "denoiser.": "computed from the settings of the chain",
        "posterior_": "computed from the settings of the chain",
        "sqrt_": "computed from the settings of the chain",
        "log_one_": "computed from the settings of the chain",
        "lvlb_": "weights of the loss",
    }
    found: dict[str, str] = {}
    for name in state:
        for begin, why in reasons.items():
            if name.startswith(begin):
                found.setdefault(f"{begin}*", why)
    return found
