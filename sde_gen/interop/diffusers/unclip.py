"""unCLIP (DALL-E 2) of diffusers: an embedding of the text, an image of the embedding, and a larger image of that."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from sde_gen.data.conditioning.frozen_text import FrozenText
from sde_gen.data.conditioning.image_prompt import ImagePrompt
from sde_gen.interop.converted_model import PARTS, ConvertedModel, ObjectSpec
from sde_gen.interop.diffusers import conditional, prior
from sde_gen.interop.diffusers.pipeline_folder import PipelineFolder
from sde_gen.interop.diffusers.stable_diffusion import UNET
from sde_gen.interop.diffusers.text_parts import TOKENIZERS, TextPart, clip_part
from sde_gen.interop.diffusers.unclip_enlargement import (
    SCHEDULER,
    enlargement,
    scheduler_of,
    with_sampler,
)
from sde_gen.interop.diffusers.unet2d_condition import UNet2DConditionLayout
from sde_gen.interop.formats import files
from sde_gen.interop.settings import plausible, reject_unknown, whole
from sde_gen.interop.transformers.folder import digest_of
from sde_gen.interop.transformers.image_encoder import CLIPImages, preprocessing
from sde_gen.interop.weight_mapper import WeightMapper
from sde_gen.model.unet.embedding_unet import EmbeddingUNet

STEPS = 25
"""Steps of prior and decoder by default."""

PRIOR_SCALE, DECODER_SCALE = 4.0, 8.0
"""Scales of guidance by default."""

TEXT = {"text_encoder": ("CLIPTextModelWithProjection",), "tokenizer": TOKENIZERS}
DECODER = {
    "decoder": UNET,
    "text_proj": ("UnCLIPTextProjModel",),
    "decoder_scheduler": SCHEDULER,
}
ENLARGEMENT = {
    "super_res_first": ("UNet2DModel",),
    "super_res_last": ("UNet2DModel",),
    "super_res_scheduler": SCHEDULER,
}
IMAGE = {
    "image_encoder": ("CLIPVisionModelWithProjection",),
    "feature_extractor": ("CLIPImageProcessor", "CLIPFeatureExtractor", "CLIPImageProcessorPil"),
}
PRIOR = {"prior": ("PriorTransformer",), "prior_scheduler": SCHEDULER}
"""Parts with their classes."""

PROJECTIONS = {
    "text_vector": "embedding_proj",
    "image_vector": "clip_image_embeddings_project_to_time_embeddings",
    "image_tokens": "clip_extra_context_tokens_proj",
    "text_tokens": "encoder_hidden_states_proj",
    "norm": "text_encoder_hidden_states_norm",
}
"""Layers beside the U-Net: names here and in diffusers."""

NULL = "learned_classifier_free_guidance_embeddings"
"""Name of the embedding that stands for no image."""

KNOWN = ("clip_extra_context_tokens", "clip_embeddings_dim", "time_embed_dim", "cross_attention_dim")
"""Arguments of UnCLIPTextProjModel."""


def read(folder: PipelineFolder) -> ConvertedModel:
    """Convert ``UnCLIPPipeline``: a run of the enlargement that names the decoder, which names the prior.

    Padding is masked in prior and decoder, and not in the encoder of texts. The decoder's unconditional prediction is
    given the learned null in place of an embedding, and the empty text.

    Source: Ramesh et al., 2022, arXiv:2204.06125; von Platen et al., diffusers 0.42, pipelines/deprecated/unclip.

    Raises:
        ValueError: a part is missing or unknown, or does not fit the others.
    """
    folder.check({**TEXT, **PRIOR, **DECODER, **ENLARGEMENT})
    text = _text(folder)
    first = _prior(folder, text)
    decoder = _after(_decoder(folder, text), prior=first)
    found = _after(enlargement(folder, decoder.shape), decoder=decoder)
    return replace(found, unused={**found.unused, **folder.left_out()})


def read_variations(folder: PipelineFolder) -> ConvertedModel:
    """Convert ``UnCLIPImageVariationPipeline``: the decoder is given the embedding of an image in place of the prior's.

    Source: as :func:`read`.

    Raises:
        ValueError: as :func:`read`.
    """
    folder.check({**TEXT, **IMAGE, **DECODER, **ENLARGEMENT})
    decoder = _decoder(folder, _text(folder), _images(folder))
    return _after(enlargement(folder, decoder.shape), decoder=decoder)


def _images(folder: PipelineFolder) -> tuple[ObjectSpec, dict[str, Path]]:
    """Return the encoder of images, and its files."""
    place = folder.folder("image_encoder")
    settings = files.json_of(folder.folder("feature_extractor") / "preprocessor_config.json")
    given: dict[str, Any] = preprocessing(settings)
    CLIPImages(path=str(place), **given).open()
    spec = ObjectSpec(CLIPImages, path=f"{PARTS}image_encoder", sha256=digest_of(place), **given)
    return spec, {f"{PARTS}image_encoder/{file.name}": file for file in folder.encoder_files("image_encoder")}


def _text(folder: PipelineFolder) -> TextPart:
    """Return the encoder of texts.

    Raises:
        ValueError: it has no projection, or one of another size than the features of a token.
    """
    found = clip_part(folder, truncate=True, masked=True, attends=True)
    if found.features != found.pooled:
        raise ValueError(
            f"the encoder in {folder.folder('text_encoder')} gives {found.features} features of a token and "
            f"{found.pooled} of a text; {folder.kind} needs as many"
        )
    return found


def _prior(folder: PipelineFolder, text: TextPart) -> ConvertedModel:
    """Convert the prior, of embeddings of images."""
    stored, scheduler = files.read(folder.weights("prior")), scheduler_of(folder, "prior_scheduler")
    config = folder.config("prior")
    layout = prior.PriorLayout(config)
    if layout.vector != text.pooled or layout.token not in (None, text.features):
        raise ValueError(
            f"the prior in {folder.folder('prior')} takes {layout.vector} features of a text, the encoder gives "
            f"{text.pooled}: they are parts of different models"
        )
    found = prior.read(files.tensors(stored), config, scheduler)
    given = ObjectSpec(FrozenText, encoder=text.encoder)
    config = {**found.config, "conditioning": given.config()}
    found = replace(found, config=config, files=text.files, notes=found.notes + files.dtype_notes(stored))
    return with_sampler(found, scheduler, STEPS, PRIOR_SCALE)


def _decoder(
    folder: PipelineFolder, text: TextPart, images: tuple[ObjectSpec, dict[str, Path]] | None = None
) -> ConvertedModel:
    """Convert decoder and projections, of images given an embedding and a text.

    Arguments:
        folder: the pipeline.
        text: the encoder of texts.
        images: the encoder of images with its files; None where the prior draws the embeddings.
    """
    scheduler = scheduler_of(folder, "decoder_scheduler")
    layout = UNet2DConditionLayout(folder.config("decoder"), variance=True)
    if (
        layout.image
        or layout.classes
        or "level" in layout.inputs
        or layout.sizes.settings["center_input_sample"]
    ):
        raise ValueError(
            f"the network in {folder.folder('decoder')} takes more than noisy image, vector and text, or centers its "
            f"input: it is of another pipeline than {folder.kind}"
        )
    sizes = _projection(folder)
    for what, mine, other in (
        ("numbers in the vector", sizes.width, layout.vector),
        ("features of a token", sizes.context, layout.token),
    ):
        if mine != other:
            raise ValueError(
                f"text_proj in {folder.folder('text_proj')} gives {mine} {what}, the decoder takes {other}: they are "
                "parts of different models"
            )
    if sizes.size != text.features:
        raise ValueError(
            f"text_proj in {folder.folder('text_proj')} takes {sizes.size} features of a token, the encoder gives "
            f"{text.features}: they are parts of different models"
        )
    stored = files.read(folder.weights("decoder"))
    tensors = files.tensors(stored)
    plausible(tensors, sum(layout.sizes.blocks))
    projections = folder.tensors("text_proj")
    if NULL not in projections or tuple(projections[NULL].shape) != (sizes.size,):
        raise ValueError(f"text_proj in {folder.folder('text_proj')} has no {NULL} with {sizes.size} numbers")
    null = projections[NULL].double().tolist()
    given, copied = ObjectSpec(FrozenText, encoder=text.encoder, numbers=null), dict(text.files)
    if images is not None:
        given = ObjectSpec(ImagePrompt, encoder=text.encoder, numbers=null, images=images[0])
        copied |= images[1]
    found = conditional.converted(layout, tensors, scheduler, given)
    settings = sizes._asdict()
    with torch.device("meta"):
        alone: Any = nn.Identity()
        mapper = WeightMapper(projections, EmbeddingUNet(net=alone, **settings))
    for target, source in PROJECTIONS.items():
        mapper.copy_layer(target, source)
    mapper.ignore(NULL, "the null of the conditioning")
    state = {f"net.{name}": value for name, value in found.state.items()} | mapper.finish()
    model = {**ObjectSpec(EmbeddingUNet, **settings).config(), "net": found.config["model"]}
    found = replace(
        found,
        config={**found.config, "model": model},
        state=state,
        files=copied,
        notes=found.notes + files.dtype_notes(stored),
    )
    return with_sampler(found, scheduler, STEPS, DECODER_SCALE)


class _Projection(NamedTuple):
    """Sizes of the layers beside the U-Net, by their names in EmbeddingUNet."""

    size: int
    width: int
    context: int
    extra: int


def _projection(folder: PipelineFolder) -> _Projection:
    config = folder.config("text_proj")
    reject_unknown(config, KNOWN, "UnCLIPTextProjModel")
    settings = {"clip_extra_context_tokens": 4, "clip_embeddings_dim": 768, **config}
    return _Projection(
        size=whole(settings, "clip_embeddings_dim"),
        width=whole(settings, "time_embed_dim"),
        context=whole(settings, "cross_attention_dim"),
        extra=whole(settings, "clip_extra_context_tokens"),
    )


def _after(model: ConvertedModel, **before: ConvertedModel) -> ConvertedModel:
    """Return a model that names the stage before it."""
    (name,) = before
    node = {"run": f"{PARTS}{name}", "sha256": None}
    return replace(model, config={**model.config, "before": node}, runs={**model.runs, **before})


PIPELINES: dict[str, Callable[[PipelineFolder], ConvertedModel]] = {
    "UnCLIPPipeline": read,
    "UnCLIPImageVariationPipeline": read_variations,
}
"""Readers by class."""
