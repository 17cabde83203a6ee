"""Common parts of pipelines of diffusers: the default of samples, and the autoencoder and codec of latents."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sde_gen.data.codec.latent import Latent
from sde_gen.interop.converted_model import PARTS, ConvertedModel, ObjectSpec
from sde_gen.interop.diffusers import autoencoder_kl, original, samplers
from sde_gen.interop.diffusers.pipeline_folder import INDEX, LEFT_OUT, PipelineFolder
from sde_gen.interop.formats import files
from sde_gen.interop.settings import MOST_LEVELS, listed, whole

SOURCE = f"{PARTS}source"
"""Folder of the settings of the original parts in the run folder."""


def with_autoencoder(
    folder: PipelineFolder,
    model: ConvertedModel,
    *,
    steps: int = 50,
    copied: Mapping[str, Path] | None = None,
) -> ConvertedModel:
    """Return a model of latents as one of images, with the pipeline's autoencoder and its sampler as default.

    Arguments:
        folder: the pipeline, with the parts ``vae`` and ``scheduler``.
        model: its network, of latents with shape (C, h, w).
        steps: steps of the pipeline's sampler by default.
        copied: further files, by their path in the run folder.

    Raises:
        ValueError: the autoencoder does not fit the network.
    """
    vae = folder.config("vae")
    channels, sides = model.shape[0], image_shape(folder, model.shape)[1:]
    stored = files.read(folder.weights("vae"))
    settings = {**vae, "sample_size": sides}
    autoencoder = autoencoder_kl.read(files.tensors(stored), settings)
    layout = autoencoder_kl.AutoencoderLayout(settings)
    kept = original.record(stored, folder.weights("vae"), layout, autoencoder.state)
    autoencoder = replace(autoencoder, notes=autoencoder.notes + files.dtype_notes(stored))
    latent = autoencoder.config["model"]["latent_channels"]
    if latent != channels:
        raise ValueError(
            f"the autoencoder in {folder.folder('vae')} has latents of {latent} channels, the network takes {channels}"
            ": they are parts of different models"
        )
    found = with_sampler(folder, model, steps=steps, copied=copied)
    codec = ObjectSpec(Latent, run=f"{PARTS}vae", sha256=None).config() | {"autoencoder": "???"}
    return replace(
        found,
        config={**found.config, "codec": codec},
        shape=autoencoder.shape,
        levels=autoencoder.levels,
        runs={**found.runs, "vae": autoencoder},
        contents={**found.contents, **{f"{SOURCE}/vae/{name}": content for name, content in kept.items()}},
    )


def with_sampler(
    folder: PipelineFolder,
    model: ConvertedModel,
    *,
    steps: int,
    copied: Mapping[str, Path] | None = None,
) -> ConvertedModel:
    """Return a model with the pipeline's sampler as default, and with the settings of its parts.

    Arguments:
        folder: the pipeline, with the part ``scheduler``.
        model: its network.
        steps: steps of the pipeline's sampler by default.
        copied: further files, by their path in the run folder.
    """
    default = samplers.sampler_of(folder.scheduler, model.config["sde"].get("betas"), steps)
    config: dict[str, Any] = {**model.config, **(default.sampler or {})}
    if default.label is not None:
        config["parametrization"] = relabeled(config["parametrization"], default.label.config())
    return replace(
        model,
        config=config,
        unused={**model.unused, **folder.left_out()},
        notes=(*model.notes, *default.notes),
        files={**model.files, **source_files(folder), **(copied or {})},
    )


def image_shape(folder: PipelineFolder, latent: Sequence[int]) -> list[int]:
    """Return the shape of the images whose latents the network takes.

    Raises:
        ValueError: the settings of the autoencoder are damaged.
    """
    vae = {**autoencoder_kl.DEFAULTS, **folder.config("vae")}
    factor = 2 ** (len(listed(vae, "block_out_channels", MOST_LEVELS)) - 1)
    return [whole(vae, "in_channels"), *(factor * side for side in latent[1:])]


def relabeled(parametrization: dict[str, Any], label: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration of a parametrization with another noise label."""
    if "mean" in parametrization:
        return {**parametrization, "mean": relabeled(parametrization["mean"], label)}
    return {**parametrization, "label": label}


def source_files(folder: PipelineFolder) -> dict[str, Path]:
    """Return the settings of the original parts, by their path in the run folder."""
    found = {f"{SOURCE}/{INDEX}": folder.path / INDEX}
    for name in folder.parts:
        if name.startswith(("text_encoder", "tokenizer")) or name in LEFT_OUT:
            continue
        for place in sorted((folder.path / name).glob("*.json")):
            if place.is_file() and ("config" in place.name or files.INDEX in place.name):
                found[f"{SOURCE}/{name}/{place.name}"] = place
    return found
