"""Stable Diffusion 1 and 2 of diffusers: images of texts, and inpainting."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from sde_gen.data.conditioning.frozen_text import FrozenText
from sde_gen.interop.converted_model import ConvertedModel, ObjectSpec
from sde_gen.interop.diffusers import conditional, original
from sde_gen.interop.diffusers.latent_pipeline import SOURCE, with_autoencoder
from sde_gen.interop.diffusers.pipeline_folder import PipelineFolder
from sde_gen.interop.diffusers.text_parts import CLIP_KINDS, TOKENIZERS, clip_part
from sde_gen.interop.diffusers.unet2d_condition import UNet2DConditionLayout
from sde_gen.interop.formats import files

SCHEDULERS = tuple(
    f"{name}Scheduler"
    for name in (
        "DDIM",
        "DDPM",
        "DEISMultistep",
        "DPMSolverMultistep",
        "DPMSolverSinglestep",
        "EulerAncestralDiscrete",
        "EulerDiscrete",
        "HeunDiscrete",
        "KDPM2AncestralDiscrete",
        "KDPM2Discrete",
        "LMSDiscrete",
        "PNDM",
        "UniPCMultistep",
    )
)
"""Schedulers of chains."""

UNET = ("UNet2DConditionModel",)
AUTOENCODER = ("AutoencoderKL",)

PARTS_READ: Mapping[str, tuple[str, ...]] = {
    "vae": AUTOENCODER,
    "text_encoder": CLIP_KINDS,
    "tokenizer": TOKENIZERS,
    "unet": UNET,
    "scheduler": SCHEDULERS,
}
"""Parts of the pipelines, with their classes."""


def read(folder: PipelineFolder) -> ConvertedModel:
    """Convert ``StableDiffusionPipeline``.

    Source: Rombach et al., 2022, arXiv:2112.10752; von Platen et al., diffusers 0.42, pipelines/stable_diffusion.

    Raises:
        ValueError: a part is missing or unknown, or does not fit the others.
    """
    folder.check(PARTS_READ)
    text = clip_part(folder, pooled=False)
    config = folder.config("unet")
    layout = UNet2DConditionLayout(config, variance=False)
    check_text(layout.token, text.features, folder)
    if layout.image or layout.classes or layout.vector is not None:
        raise ValueError(
            f"the network in {folder.folder('unet')} takes more than noisy latents and text (in_channels="
            f"{config.get('in_channels')}): it is of another pipeline than {folder.kind}"
        )
    given = ObjectSpec(FrozenText, encoder=text.encoder, pooled=False)
    return with_autoencoder(folder, network(folder, layout, given), copied=text.files)


def network(
    folder: PipelineFolder,
    layout: Any,
    given: ObjectSpec,
    *,
    part: str = "unet",
    classes: int = 0,
    scheduler: Mapping[str, Any] | None = None,
) -> ConvertedModel:
    """Convert the network of a pipeline with its scheduler, as one of latents.

    Arguments:
        folder: the pipeline.
        layout: mapping of the network.
        given: its conditioning.
        part: name of the network.
        classes: number of classes, 0 for none.
        scheduler: settings of the scheduler; None for those of the folder.
    """
    stored = files.read(folder.weights(part))
    found = conditional.converted(
        layout, files.tensors(stored), scheduler or folder.scheduler, given, classes=classes
    )
    kept = original.record(stored, folder.weights(part), layout, found.state)
    return replace(
        found,
        notes=found.notes + files.dtype_notes(stored),
        contents={f"{SOURCE}/{part}/{name}": content for name, content in kept.items()},
    )


def check_text(token: int | None, features: int, folder: PipelineFolder) -> None:
    """Raise ValueError where a network takes other features of tokens than the encoders give."""
    if token != features:
        raise ValueError(
            f"the encoders of texts in {folder.path} give {features} features of a token, the network takes {token}: "
            "they are parts of different models"
        )


PIPELINES: dict[str, Callable[[PipelineFolder], ConvertedModel]] = {
    "StableDiffusionPipeline": read,
    "StableDiffusionImg2ImgPipeline": read,
}
"""Readers by class."""
