"""Stable Diffusion of diffusers with an image beside the noisy latents: inpainting, and the upscaler by a factor 4."""

from collections.abc import Callable

from sde_gen.data.conditioning.frozen_text import FrozenText
from sde_gen.data.conditioning.masked_latents import MaskedLatents
from sde_gen.data.conditioning.noised_image import NoisedImage
from sde_gen.data.conditioning.several import Several
from sde_gen.interop.converted_model import ConvertedModel, ObjectSpec
from sde_gen.interop.diffusers import schedulers
from sde_gen.interop.diffusers.latent_pipeline import image_shape, with_autoencoder
from sde_gen.interop.diffusers.pipeline_folder import PipelineFolder
from sde_gen.interop.diffusers.stable_diffusion import PARTS_READ, check_text, network, read
from sde_gen.interop.diffusers.text_parts import clip_part
from sde_gen.interop.diffusers.unet2d_condition import UNet2DConditionLayout

UPSCALER_STEPS = 75
"""Steps of the upscaler by default."""

UPSCALER_LEVEL = 20
"""Step of the chain to which the pipeline of the upscaler noises the image by default."""


def read_inpainting(folder: PipelineFolder) -> ConvertedModel:
    """Convert ``StableDiffusionInpaintPipeline``; one of 4 channels inpaints as any other network.

    Source: von Platen et al., diffusers 0.42, pipelines/stable_diffusion/pipeline_stable_diffusion_inpaint.py.

    Raises:
        ValueError: a part is missing or unknown, or does not fit the others.
    """
    folder.check(PARTS_READ)
    layout = UNet2DConditionLayout(folder.config("unet"), variance=False)
    if not layout.image:
        return read(folder)
    channels, text = layout.channels, clip_part(folder, pooled=False)
    check_text(layout.token, text.features, folder)
    if layout.image != channels + 1 or layout.classes:
        raise ValueError(
            f"the network in {folder.folder('unet')} has {channels + layout.image} channels in and {channels} out; "
            f"inpainting needs {2 * channels + 1} in: latents, mask and masked latents"
        )
    image = ObjectSpec(MaskedLatents, shape=image_shape(folder, layout.shape), latent=layout.shape)
    parts = {"text": ObjectSpec(FrozenText, encoder=text.encoder, pooled=False), "image": image}
    given = ObjectSpec(Several, parts=parts, dropout=0.0)
    return with_autoencoder(folder, network(folder, layout, given), copied=text.files)


def read_upscaler(folder: PipelineFolder) -> ConvertedModel:
    """Convert ``StableDiffusionUpscalePipeline``: images of the size of the latents are enlarged by the autoencoder.

    The image is given without noise unless ``image_noise`` asks for some.

    Source: von Platen et al., diffusers 0.42, pipelines/stable_diffusion/pipeline_stable_diffusion_upscale.py.

    Raises:
        ValueError: a part is missing or unknown, or does not fit the others.
    """
    folder.check({**PARTS_READ, "low_res_scheduler": ("DDPMScheduler",)})
    layout = UNet2DConditionLayout(folder.config("unet"), variance=False)
    text = clip_part(folder, pooled=False)
    check_text(layout.token, text.features, folder)
    if layout.image not in (1, 3) or not layout.classes:
        raise ValueError(
            f"the network in {folder.folder('unet')} has {layout.channels + layout.image} channels in and "
            f"{layout.classes} steps of noise; the upscaler needs an image of 1 or 3 channels and num_class_embeds"
        )
    betas = schedulers.betas_of(folder.settings_of("low_res_scheduler"))
    image = ObjectSpec(NoisedImage, shape=[layout.image, *layout.shape[1:]], betas=betas)
    parts = {"text": ObjectSpec(FrozenText, encoder=text.encoder, pooled=False), "image": image}
    given = ObjectSpec(Several, parts=parts, dropout=0.0)
    found = with_autoencoder(folder, network(folder, layout, given), steps=UPSCALER_STEPS, copied=text.files)
    level = float(image.make().table[UPSCALER_LEVEL])
    return found.noted(
        f"the image has no noise by default; that of the pipeline, noise_level={UPSCALER_LEVEL}, is "
        f"image_noise={level:.4f}"
    )


PIPELINES: dict[str, Callable[[PipelineFolder], ConvertedModel]] = {
    "StableDiffusionInpaintPipeline": read_inpainting,
    "StableDiffusionUpscalePipeline": read_upscaler,
}
"""Readers by class."""
