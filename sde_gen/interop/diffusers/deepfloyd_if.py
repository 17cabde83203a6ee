"""DeepFloyd IF of diffusers: images of texts without an autoencoder."""

from collections.abc import Callable
from typing import Any

from sde_gen.data.conditioning.frozen_text import FrozenText
from sde_gen.data.conditioning.noised_image import NoisedImage
from sde_gen.data.conditioning.several import Several
from sde_gen.interop.converted_model import ConvertedModel, ObjectSpec
from sde_gen.interop.diffusers import conditional, schedulers
from sde_gen.interop.diffusers.latent_pipeline import with_sampler
from sde_gen.interop.diffusers.pipeline_folder import PipelineFolder
from sde_gen.interop.diffusers.stable_diffusion import SCHEDULERS, UNET, check_text, network
from sde_gen.interop.diffusers.text_parts import T5_KINDS, T5_TOKENIZERS, t5_part
from sde_gen.interop.diffusers.unet2d_condition import UNet2DConditionLayout

STEPS = 100
"""Steps of the first stage by default."""

ENLARGED_STEPS = 50
"""Steps of super-resolution by default."""

FACTOR = 4
"""Enlargement of a side by super-resolution, from 64 to 256 pixels (Shonenkov et al., 2023, DeepFloyd IF)."""

NOISE_STEP = 250
"""Step of the chain to which the pipeline noises the image by default."""

LENGTH = 77
"""Tokens of a text."""

TEXT_PARTS = {"text_encoder": T5_KINDS, "tokenizer": T5_TOKENIZERS}
"""Encoder of texts and its tokenizer."""


def read(folder: PipelineFolder) -> ConvertedModel:
    """Convert ``IFPipeline``, the first stage.

    Padding is masked in T5, and not in the network. Without the encoder a text is a file of embedded tokens.

    Sources: Saharia et al., 2022, arXiv:2205.11487, the design; von Platen et al., diffusers 0.42,
    pipelines/deepfloyd_if.

    Raises:
        ValueError: a part is missing or unknown, or does not fit the others.
    """
    folder.check({**TEXT_PARTS, "unet": UNET, "scheduler": SCHEDULERS}, optional=TEXT_PARTS)
    layout = _layout(folder)
    if layout.image or layout.classes or layout.vector is not None or "level" in layout.inputs:
        raise ValueError(
            f"the network in {folder.folder('unet')} takes more than a noisy image and a text: it is of another "
            f"pipeline than {folder.kind}"
        )
    given, copied = _text(folder, layout.token)
    return with_sampler(folder, _network(folder, layout, given), steps=STEPS, copied=copied)


def read_super_resolution(folder: PipelineFolder) -> ConvertedModel:
    """Convert ``IFSuperResolutionPipeline``, the second stage, whose image is enlarged and may be noised.

    The image is given without noise unless ``image_noise`` asks for some.

    Source: as :func:`read`.

    Raises:
        ValueError: a part is missing or unknown, or does not fit the others.
    """
    known = {
        **TEXT_PARTS,
        "unet": UNET,
        "scheduler": SCHEDULERS,
        "image_noising_scheduler": ("DDPMScheduler",),
    }
    folder.check(known, optional=TEXT_PARTS)
    layout = _layout(folder)
    if layout.image != layout.channels or "level" not in layout.inputs:
        raise ValueError(
            f"the network in {folder.folder('unet')} has {layout.channels + layout.image} channels in; "
            f"super-resolution needs {2 * layout.channels}, noisy and enlarged image, and class_embed_type=timestep"
        )
    text, copied = _text(folder, layout.token)
    betas = schedulers.betas_of(folder.settings_of("image_noising_scheduler"))
    shape = [layout.image, *layout.shape[1:]]
    image = ObjectSpec(NoisedImage, shape=shape, betas=betas, factor=FACTOR)
    given = ObjectSpec(Several, parts={"text": text, "image": image}, dropout=0.0)
    found = with_sampler(folder, _network(folder, layout, given), steps=ENLARGED_STEPS, copied=copied)
    table = image.make().table
    step = min(NOISE_STEP, len(table) - 1)
    return found.noted(
        f"the image has no noise by default; that of the pipeline, noise_level={step}, is "
        f"image_noise={float(table[step]):.4f}"
    )


def _network(folder: PipelineFolder, layout: UNet2DConditionLayout, given: ObjectSpec) -> ConvertedModel:
    """Convert the network, which has a variance beside the prediction whether the sampler takes it or not."""
    return network(folder, layout, given, scheduler={**folder.scheduler, "variance_type": "learned_range"})


def _layout(folder: PipelineFolder) -> UNet2DConditionLayout:
    """Return the mapping of the network.

    Raises:
        ValueError: a setting is not supported, or it takes no text.
    """
    config = folder.config("unet")
    layout = UNet2DConditionLayout(config, variance=True)
    if layout.token is None or config.get("center_input_sample"):
        raise ValueError(
            f"the network in {folder.folder('unet')} takes no text, or centers its input: it is of another pipeline "
            f"than {folder.kind}"
        )
    return layout


def _text(folder: PipelineFolder, features: int | None) -> tuple[ObjectSpec, dict[str, Any]]:
    """Return the conditioning on texts, and the files of their encoder.

    Raises:
        ValueError: encoder and tokenizer are not both there, or do not fit the network.
    """
    there = [name for name in TEXT_PARTS if name in folder]
    if not there:
        return conditional.conditioning(classes=0, token=features, vector=None, image=None), {}
    if len(there) == 1:
        raise ValueError(
            f"{folder.path} has {there[0]} alone of {' and '.join(TEXT_PARTS)}: give both, or none"
        )
    part = t5_part(folder, "", LENGTH, masked=True)
    check_text(features, part.features, folder)
    text = ObjectSpec(FrozenText, encoder=part.encoder, pooled=False, lowercase=True, masked=False)
    return text, dict(part.files)


PIPELINES: dict[str, Callable[[PipelineFolder], ConvertedModel]] = {
    "IFPipeline": read,
    "IFSuperResolutionPipeline": read_super_resolution,
}
"""Readers by class."""
