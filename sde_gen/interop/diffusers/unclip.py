"""unCLIP (DALL-E 2) of diffusers: an embedding of the text, an image of the embedding, and a larger image of that."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sde_gen.data.codec.uniform import UniformCodec
from sde_gen.data.conditioning.enlarged_image import EnlargedImage
from sde_gen.data.conditioning.frozen_text import FrozenText
from sde_gen.interop.converted_model import PARTS, ConvertedModel, ObjectSpec
from sde_gen.interop.diffusers import conditional, prior, samplers, schedulers
from sde_gen.interop.diffusers.pipeline_folder import PipelineFolder
from sde_gen.interop.diffusers.stable_diffusion import UNET
from sde_gen.interop.diffusers.text_parts import TOKENIZERS, TextPart, clip_part
from sde_gen.interop.diffusers.unet2d import renamed
from sde_gen.interop.diffusers.unet2d_condition import UNet2DConditionLayout
from sde_gen.interop.diffusers.unet2d_plain import plain_layout
from sde_gen.interop.formats import files
from sde_gen.interop.settings import choice, plausible, reject_unknown, whole
from sde_gen.interop.weight_mapper import WeightMapper
from sde_gen.model.experts import NoiseExperts
from sde_gen.model.unet.embedding_unet import EmbeddingUNet

STEPS, ENLARGED_STEPS = 25, 7
"""Steps of prior and decoder, and of the enlargement, by default."""

PRIOR_SCALE, DECODER_SCALE = 4.0, 8.0
"""Scales of guidance by default."""

SCHEDULER = ("UnCLIPScheduler",)
DEFAULTS: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "variance_type": "fixed_small_log",
    "clip_sample": True,
    "clip_sample_range": 1.0,
    "prediction_type": "epsilon",
    "beta_schedule": "squaredcos_cap_v2",
}
"""Defaults of the arguments of UnCLIPScheduler."""

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

BOUNDARY = 0.5
"""Noise label below which the network of the last step is called, which is that of step 0."""


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
    found = _after(_enlargement(folder, decoder.shape), decoder=decoder)
    return replace(found, unused={**found.unused, **folder.left_out()})


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
    stored, scheduler = files.read(folder.weights("prior")), _scheduler(folder, "prior_scheduler")
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
    return _with_sampler(found, scheduler, STEPS, PRIOR_SCALE)


def _decoder(folder: PipelineFolder, text: TextPart) -> ConvertedModel:
    """Convert decoder and projections, of images given an embedding and a text."""
    scheduler = _scheduler(folder, "decoder_scheduler")
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
    given = ObjectSpec(FrozenText, encoder=text.encoder, numbers=null)
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
        files=text.files,
        notes=found.notes + files.dtype_notes(stored),
    )
    return _with_sampler(found, scheduler, STEPS, DECODER_SCALE)


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


def _enlargement(folder: PipelineFolder, given: tuple[int, ...]) -> ConvertedModel:
    """Convert the networks that enlarge: that of the last step, and that of all others.

    Arguments:
        folder: the pipeline.
        given: shape of the images that the decoder draws.
    """
    scheduler = _scheduler(folder, "super_res_scheduler")
    side = folder.config("super_res_first").get("sample_size")
    parts = [_Enlarger(folder, name, side) for name in ("super_res_first", "super_res_last")]
    shape, outputs = parts[0].shape, parts[0].outputs
    if any((part.shape, part.outputs) != (shape, outputs) for part in parts) or shape[0] != given[0]:
        raise ValueError(
            f"the networks that enlarge images of {given[0]} channels have "
            f"{' and '.join(str(part.shape[0]) for part in parts)}, and {' and '.join(str(p.outputs) for p in parts)} "
            "outputs a channel: they are parts of different models"
        )
    conventions = schedulers.conventions_of(scheduler, outputs=outputs, fourier=False, unit=1.0)
    first, last = parts
    found = ConvertedModel(
        config={
            "model": ObjectSpec(NoiseExperts, net=first.spec, last=last.spec, boundary=BOUNDARY).config(),
            "sde": conventions.sde.config(),
            "parametrization": conventions.parametrization.config(),
            "codec": ObjectSpec(UniformCodec, levels=256, low=-1.0, high=1.0).config(),
            "conditioning": ObjectSpec(EnlargedImage, shape=shape, given_sides=[*given[1:]]).config(),
        },
        shape=tuple(shape),
        levels=256,
        classes=0,
        state={
            f"{place}.{name}": value
            for place, part in (("net", first), ("last", last))
            for name, value in part.state.items()
        },
        unused={**first.unused, **last.unused},
        notes=tuple(dict.fromkeys((*conventions.notes, *first.notes, *last.notes))),
    )
    return _with_sampler(found, scheduler, ENLARGED_STEPS)


class _Enlarger:
    """A network that enlarges images.

    Arguments:
        folder: the pipeline.
        name: the part.
        side: height and width of the image.

    Raises:
        ValueError: a setting is not supported, or tensors do not fit.
    """

    def __init__(self, folder: PipelineFolder, name: str, side: Any) -> None:
        layout = plain_layout({**folder.config(name), "sample_size": side}, beside=True)
        sizes = layout.sizes
        if (
            sizes.classes
            or sizes.centered
            or sizes.skips
            or sizes.settings["time_embedding_type"] == "fourier"
        ):
            raise ValueError(
                f"the network in {folder.folder(name)} has classes, skip blocks or Fourier features, or centers its "
                f"input: it is of another pipeline than {folder.kind}"
            )
        self.shape, self.outputs, self.spec = sizes.shape, sizes.outputs, layout.spec()
        stored = files.read(folder.weights(name))
        tensors = renamed(files.tensors(stored))
        plausible(tensors, sizes.levels * sizes.blocks)
        with torch.device("meta"):
            mapper = WeightMapper(tensors, self.spec.make())
        layout.map_weights(mapper)
        self.state: dict[str, Tensor] = mapper.finish()
        self.unused, self.notes = mapper.unused, files.dtype_notes(stored)


def _scheduler(folder: PipelineFolder, name: str) -> dict[str, Any]:
    found = {**DEFAULTS, **folder.settings_of(name)}
    choice(found, "beta_schedule", schedulers.COSINE)
    return found


def _with_sampler(
    model: ConvertedModel, scheduler: Mapping[str, Any], steps: int, scale: float | None = None
) -> ConvertedModel:
    """Return a model with its sampler, and with a scale of guidance, as default."""
    default = samplers.sampler_of(scheduler, model.config["sde"].get("betas"), steps)
    config: dict[str, Any] = {**model.config, **(default.sampler or {})}
    if scale is not None:
        config["sampling"] = {**config["sampling"], "guidance": scale}
    return replace(model, config=config, notes=(*model.notes, *default.notes))


def _after(model: ConvertedModel, **before: ConvertedModel) -> ConvertedModel:
    """Return a model that names the stage before it."""
    (name,) = before
    node = {"run": f"{PARTS}{name}", "sha256": None}
    return replace(model, config={**model.config, "before": node}, runs={**model.runs, **before})


PIPELINES: dict[str, Callable[[PipelineFolder], ConvertedModel]] = {"UnCLIPPipeline": read}
"""Readers by class."""
