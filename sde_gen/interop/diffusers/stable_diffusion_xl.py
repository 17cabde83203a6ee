"""Stable Diffusion XL of diffusers: the base, the refiner and inpainting."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sde_gen.data.conditioning.embedder import Beside
from sde_gen.data.conditioning.frozen_text import FrozenText
from sde_gen.data.conditioning.masked_latents import MaskedLatents
from sde_gen.data.conditioning.several import Several
from sde_gen.interop.converted_model import ConvertedModel, ObjectSpec
from sde_gen.interop.diffusers.latent_pipeline import image_shape, with_autoencoder
from sde_gen.interop.diffusers.pipeline_folder import PipelineFolder
from sde_gen.interop.diffusers.stable_diffusion import (
    AUTOENCODER,
    SCHEDULERS,
    UNET,
    check_text,
    network,
)
from sde_gen.interop.diffusers.text_parts import CLIP_KINDS, TOKENIZERS, clip_part
from sde_gen.interop.diffusers.unet2d_condition import UNet2DConditionLayout
from sde_gen.interop.settings import flag

FIRST = {"text_encoder": CLIP_KINDS, "tokenizer": TOKENIZERS}
"""Parts that the refiner lacks."""

PARTS_READ = {
    "vae": AUTOENCODER,
    **FIRST,
    "text_encoder_2": ("CLIPTextModelWithProjection",),
    "tokenizer_2": TOKENIZERS,
    "unet": UNET,
    "scheduler": SCHEDULERS,
}
"""Parts of the pipelines, with their classes."""

SCORE, NEGATIVE_SCORE = 6.0, 2.5
"""Aesthetic scores of the refiner for the text and the negative text, by default."""


def read(folder: PipelineFolder) -> ConvertedModel:
    """Convert ``StableDiffusionXLPipeline`` and its kin.

    The numbers beside the text are original height and width, top and left of the crop, and target height and width,
    for the refiner an aesthetic score in place of the last two. Their defaults are an uncropped image of the network's
    size.

    Source: Podell et al., 2023, arXiv:2307.01952; von Platen et al., diffusers 0.42, pipelines/stable_diffusion_xl.

    Raises:
        ValueError: a part is missing or unknown, or does not fit the others.
    """
    folder.check(PARTS_READ, optional=FIRST)
    layout = UNet2DConditionLayout(folder.config("unet"), variance=False)
    text, copied = text_of(folder, layout)
    given = text
    if layout.image:
        image = ObjectSpec(MaskedLatents, shape=image_shape(folder, layout.shape), latent=layout.shape)
        given = ObjectSpec(Several, parts={"text": text, "image": image}, dropout=0.0)
        if layout.image != layout.channels + 1:
            raise ValueError(
                f"the network in {folder.folder('unet')} has {layout.channels + layout.image} channels in; expected "
                f"{layout.channels}, or {2 * layout.channels + 1} for inpainting"
            )
    return with_autoencoder(folder, network(folder, layout, given), copied=copied)


def text_of(folder: PipelineFolder, layout: UNet2DConditionLayout) -> tuple[ObjectSpec, dict[str, Path]]:
    """Return the conditioning on texts and on the numbers beside them, and the files of the encoders.

    Arguments:
        folder: the pipeline.
        layout: mapping of its network.

    Raises:
        ValueError: an encoder is missing, or does not fit the network.
    """
    if ("text_encoder" in folder) != ("tokenizer" in folder):
        raise ValueError(f"{folder.path} has one of text_encoder and tokenizer: both are needed, or none")
    settings: dict[str, Any] = {"skip": 1, "normalize": False}
    texts = [clip_part(folder, "_2", **settings)]
    if "text_encoder" in folder:
        texts = [clip_part(folder, pooled=False, **settings), *texts]
    check_text(layout.token, sum(part.features for part in texts), folder)
    if len({part.length for part in texts}) > 1:
        raise ValueError(f"the encoders of texts in {folder.path} take different numbers of tokens")
    encoder = texts[-1].encoder
    if len(texts) > 1:
        encoder = ObjectSpec(Beside, parts={"first": texts[0].encoder, "second": encoder})
    shape = image_shape(folder, layout.shape)
    count, sides = _numbers(folder, layout, texts[-1].pooled), [float(side) for side in shape[1:]]
    refines = count == 5
    numbers = [*sides, 0.0, 0.0, *([SCORE] if refines else sides)]
    index = {"force_zeros_for_empty_prompt": True, **folder.index}
    text = ObjectSpec(
        FrozenText,
        encoder=encoder,
        pooled=True,
        zero_null=flag(index, "force_zeros_for_empty_prompt"),
        numbers=numbers,
        null_numbers=[*numbers[:4], NEGATIVE_SCORE] if refines else None,
    )
    return text, {place: file for part in texts for place, file in part.files.items()}


def _numbers(folder: PipelineFolder, layout: UNet2DConditionLayout, pooled: int) -> int:
    """Return the number of numbers beside the features of the text.

    Raises:
        ValueError: the network takes others than the encoder gives.
    """
    if "added_vector" not in layout.inputs:
        raise ValueError(f"the network in {folder.folder('unet')} has no addition_embed_type=text_time")
    added = layout.inputs["added_vector"].keywords
    count, rest = divmod(added["inputs"] - pooled, added["sinusoids"].keywords["size"])
    if rest or count not in (5, 6):
        raise ValueError(
            f"the second encoder of texts in {folder.path} gives {pooled} features of a text, and the network in "
            f"{folder.folder('unet')} takes {added['inputs']} with those of 5 or 6 numbers: they are parts of "
            "different models"
        )
    return int(count)


PIPELINES: dict[str, Callable[[PipelineFolder], ConvertedModel]] = {
    "StableDiffusionXLPipeline": read,
    "StableDiffusionXLImg2ImgPipeline": read,
    "StableDiffusionXLInpaintPipeline": read,
}
"""Readers by class."""
