"""DiT's pipeline of diffusers: images of classes."""

from collections.abc import Callable

from sde_gen.data.conditioning.label import Label
from sde_gen.interop.converted_model import ConvertedModel, ObjectSpec
from sde_gen.interop.diffusers import conditional
from sde_gen.interop.diffusers.dit_transformer import DiTLayout
from sde_gen.interop.diffusers.latent_pipeline import with_autoencoder
from sde_gen.interop.diffusers.pipeline_folder import PipelineFolder
from sde_gen.interop.diffusers.stable_diffusion import AUTOENCODER, SCHEDULERS, network


def read(folder: PipelineFolder) -> ConvertedModel:
    """Convert ``DiTPipeline``.

    Source: Peebles and Xie, 2022, arXiv:2212.09748; von Platen et al., diffusers 0.42, pipelines/dit.

    Raises:
        ValueError: a part is missing or unknown, or does not fit the others.
    """
    folder.check(
        {
            "vae": AUTOENCODER,
            "transformer": ("DiTTransformer2DModel", "Transformer2DModel"),
            "scheduler": SCHEDULERS,
        }
    )
    layout = DiTLayout(folder.config("transformer"))
    given = ObjectSpec(Label, classes=layout.classes, dropout=conditional.DROPPED)
    scheduler = folder.scheduler
    if layout.outputs == 2:
        scheduler = {**scheduler, "variance_type": "learned_range"}
    found = network(folder, layout, given, part="transformer", classes=layout.classes, scheduler=scheduler)
    return with_autoencoder(folder, found)


PIPELINES: dict[str, Callable[[PipelineFolder], ConvertedModel]] = {"DiTPipeline": read}
"""Readers by class."""
