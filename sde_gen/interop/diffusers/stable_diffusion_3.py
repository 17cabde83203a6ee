"""Stable Diffusion 3 and 3.5 of diffusers: up to three encoders of texts."""

from collections.abc import Callable
from typing import Any

from sde_gen.data.conditioning.embedder import Behind, Beside
from sde_gen.data.conditioning.frozen_text import FrozenText
from sde_gen.data.conditioning.no_tokens import NoTokens
from sde_gen.interop.converted_model import ConvertedModel, ObjectSpec
from sde_gen.interop.diffusers import conditional
from sde_gen.interop.diffusers.latent_pipeline import with_autoencoder
from sde_gen.interop.diffusers.pipeline_folder import PipelineFolder
from sde_gen.interop.diffusers.sd3_transformer import SD3Layout
from sde_gen.interop.diffusers.stable_diffusion import AUTOENCODER, check_text, network
from sde_gen.interop.diffusers.text_parts import (
    CLIP_KINDS,
    T5_KINDS,
    T5_TOKENIZERS,
    TOKENIZERS,
    clip_part,
    t5_part,
)

STEPS = 28
"""Steps of the pipeline by default."""

T5_LENGTH = 256
"""Tokens of T5 that the pipeline takes (``max_sequence_length``)."""

TEXT_PARTS = {
    "text_encoder": CLIP_KINDS,
    "tokenizer": TOKENIZERS,
    "text_encoder_2": CLIP_KINDS,
    "tokenizer_2": TOKENIZERS,
    "text_encoder_3": T5_KINDS,
    "tokenizer_3": T5_TOKENIZERS,
}
"""Encoders of texts and their tokenizers."""


def read(folder: PipelineFolder) -> ConvertedModel:
    """Convert ``StableDiffusion3Pipeline``.

    The tokens of both CLIPs stand beside each other, those of T5 behind them; without T5 zeros take their place, as
    there. Without any encoder a text is a file of embedded tokens.

    Source: Esser et al., 2024, arXiv:2403.03206; von Platen et al., diffusers 0.42, pipelines/stable_diffusion_3.

    Raises:
        ValueError: a part is missing or unknown, or does not fit the others.
    """
    folder.check(
        {
            "vae": AUTOENCODER,
            "transformer": ("SD3Transformer2DModel",),
            "scheduler": ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"),
            **TEXT_PARTS,
        },
        optional=TEXT_PARTS,
    )
    layout = SD3Layout(folder.config("transformer"))
    given, copied = _text(folder, layout)
    return with_autoencoder(
        folder, network(folder, layout, given, part="transformer"), steps=STEPS, copied=copied
    )


def _text(folder: PipelineFolder, layout: SD3Layout) -> tuple[ObjectSpec, dict[str, Any]]:
    there = [name for name in TEXT_PARTS if name in folder]
    if not there:
        return conditional.conditioning(classes=0, token=layout.token, vector=layout.vector, image=None), {}
    needed = [name for name in TEXT_PARTS if not name.endswith("_3")]
    if missing := [name for name in needed if name not in folder]:
        raise ValueError(
            f"{folder.path} has {', '.join(there)} and no {missing[0]}: both CLIPs are needed, or none"
        )
    if ("text_encoder_3" in folder) != ("tokenizer_3" in folder):
        raise ValueError(f"{folder.path} has one of text_encoder_3 and tokenizer_3: both are needed, or none")
    clips = [clip_part(folder, number, skip=1, normalize=False) for number in ("", "_2")]
    beside = ObjectSpec(Beside, parts={"first": clips[0].encoder, "second": clips[1].encoder})
    copied: dict[str, Any] = {**clips[0].files, **clips[1].files}
    if "text_encoder_3" in folder:
        last = t5_part(folder, "_3", T5_LENGTH)
        behind, copied = last.encoder, {**copied, **last.files}
        check_text(layout.token, last.features, folder)
    else:
        behind = ObjectSpec(NoTokens, length=T5_LENGTH, features=layout.token)
    width, pooled = sum(part.features for part in clips), sum(part.pooled for part in clips)
    if width > layout.token or pooled != layout.vector:
        raise ValueError(
            f"the encoders of texts in {folder.path} give {width} features of a token and {pooled} of a text, the "
            f"network takes {layout.token} and {layout.vector}: they are parts of different models"
        )
    encoder = ObjectSpec(Behind, parts={"clip": beside, "t5": behind})
    return ObjectSpec(FrozenText, encoder=encoder, pooled=True), copied


PIPELINES: dict[str, Callable[[PipelineFolder], ConvertedModel]] = {
    "StableDiffusion3Pipeline": read,
    "StableDiffusion3Img2ImgPipeline": read,
}
"""Readers by class."""
