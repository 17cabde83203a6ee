"""Stable Diffusion 1, 2 and XL with a ControlNet of diffusers: images of texts and hints."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sde_gen.data.conditioning.control import Hint
from sde_gen.data.conditioning.frozen_text import FrozenText
from sde_gen.data.conditioning.several import Several
from sde_gen.interop.converted_model import PARTS, ConvertedModel, ObjectSpec
from sde_gen.interop.diffusers import conditional, controlnet, stable_diffusion_xl
from sde_gen.interop.diffusers.latent_pipeline import image_shape, with_autoencoder
from sde_gen.interop.diffusers.pipeline_folder import PipelineFolder
from sde_gen.interop.diffusers.stable_diffusion import PARTS_READ, check_text, network
from sde_gen.interop.diffusers.text_parts import clip_part
from sde_gen.interop.diffusers.unet2d_condition import UNet2DConditionLayout
from sde_gen.interop.formats import files

CONTROL = {"controlnet": ("ControlNetModel",)}
"""The further part of the pipelines, with its class."""

LEVELS = 256
"""Levels of an image."""


def read(folder: PipelineFolder) -> ConvertedModel:
    """Convert ``StableDiffusionControlNetPipeline``: the controlled network is a run inside the run.

    Guidance that drops the text and keeps the hint, ``guidance.drop=[tokens]``, is the pipeline's; where both are
    dropped it is that of its ``guess_mode``, with ``control_strength.ramp=0.1``.

    Source: Zhang et al., 2023, arXiv:2302.05543; von Platen et al., diffusers 0.42, pipelines/controlnet.

    Raises:
        ValueError: a part is missing or unknown, or does not fit the others.
    """
    folder.check({**PARTS_READ, **CONTROL})
    text = clip_part(folder, pooled=False)
    layout = UNet2DConditionLayout(folder.config("unet"), variance=False)
    check_text(layout.token, text.features, folder)
    if layout.vector is not None:
        raise ValueError(_more(folder))
    return _controlled(folder, layout, ObjectSpec(FrozenText, encoder=text.encoder, pooled=False), text.files)


def read_xl(folder: PipelineFolder) -> ConvertedModel:
    """Convert ``StableDiffusionXLControlNetPipeline``, as :func:`read`; the numbers beside the text are those of XL.

    Source: von Platen et al., diffusers 0.42, pipelines/controlnet/pipeline_controlnet_sd_xl.py.

    Raises:
        ValueError: a part is missing or unknown, or does not fit the others.
    """
    folder.check({**stable_diffusion_xl.PARTS_READ, **CONTROL})
    layout = UNet2DConditionLayout(folder.config("unet"), variance=False)
    return _controlled(folder, layout, *stable_diffusion_xl.text_of(folder, layout))


def _more(folder: PipelineFolder) -> str:
    return (
        f"the network in {folder.folder('unet')} takes more than noisy latents and text, which {folder.kind} does not "
        "give"
    )


def _controlled(
    folder: PipelineFolder, layout: UNet2DConditionLayout, text: ObjectSpec, copied: Mapping[str, Path]
) -> ConvertedModel:
    """Convert network and ControlNet.

    Arguments:
        folder: the pipeline.
        layout: mapping of its network.
        text: conditioning on texts.
        copied: files of the encoders of texts.

    Raises:
        ValueError: they do not fit.
    """
    if layout.image or layout.classes:
        raise ValueError(_more(folder))
    given = conditional.conditioning(classes=0, token=layout.token, vector=layout.vector, image=None)
    base = network(folder, layout, given)
    stored = files.read(folder.weights("controlnet"))
    control = controlnet.read(files.tensors(stored), folder.config("controlnet"))
    _check(folder, layout, control.config["model"])
    hint = [control.config["model"]["hint"], *image_shape(folder, base.shape)[1:]]
    parts = {
        "text": text,
        "control": ObjectSpec(Hint, dropout=0.0, shape=hint, levels=LEVELS),
    }
    config: Mapping[str, Any] = {
        **base.config,
        "model": {**control.config["model"], "run": f"{PARTS}unet"},
        "conditioning": ObjectSpec(Several, parts=parts, dropout=0.0).config(),
    }
    model = replace(
        base,
        config=dict(config),
        state=control.state,
        unused={**base.unused, **control.unused},
        notes=base.notes + files.dtype_notes(stored),
        runs={"unet": base},
    )
    return with_autoencoder(folder, model, copied=copied)


def _check(folder: PipelineFolder, layout: UNet2DConditionLayout, node: Mapping[str, Any]) -> None:
    """Raise ValueError where the ControlNet is one of another network."""
    mine = [level["channels"] for level in node["encoder"]["down"]]
    if mine != layout.sizes.widths or node["encoder"]["shape"][0] != layout.channels:
        raise ValueError(
            f"the ControlNet in {folder.folder('controlnet')} has {mine} channels at its levels, the network "
            f"{layout.sizes.widths}: they are parts of different models"
        )


PIPELINES: dict[str, Callable[[PipelineFolder], ConvertedModel]] = {
    "StableDiffusionControlNetPipeline": read,
    "StableDiffusionXLControlNetPipeline": read_xl,
}
"""Readers by class."""
