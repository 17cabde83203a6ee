"""Pipelines of diffusers by class: whole folders with ``model_index.json``."""

from collections.abc import Callable
from pathlib import Path

from sde_gen.interop.converted_model import ConvertedModel
from sde_gen.interop.diffusers import (
    controlnet_pipeline,
    deepfloyd_if,
    dit_pipeline,
    stable_diffusion,
    stable_diffusion_3,
    stable_diffusion_images,
    stable_diffusion_xl,
    unclip,
)
from sde_gen.interop.diffusers.pipeline_folder import INDEX, PipelineFolder

PIPELINES: dict[str, Callable[[PipelineFolder], ConvertedModel]] = {
    **stable_diffusion.PIPELINES,
    **stable_diffusion_images.PIPELINES,
    **stable_diffusion_xl.PIPELINES,
    **controlnet_pipeline.PIPELINES,
    **stable_diffusion_3.PIPELINES,
    **dit_pipeline.PIPELINES,
    **deepfloyd_if.PIPELINES,
    **unclip.PIPELINES,
}
"""Readers by class; each is given the folder and returns a model with its parts."""

PLAIN = (
    "DDIMPipeline",
    "DDPMPipeline",
    "KarrasVePipeline",
    "PNDMPipeline",
    "ScoreSdeVePipeline",
    "ConsistencyModelPipeline",
)
"""Pipelines of a network and a scheduler alone, which are read without their list."""


def is_whole(path: Path) -> bool:
    """Return whether a folder lists the parts of a pipeline that is more than a network and a scheduler.

    Raises:
        ValueError: the list is damaged.
    """
    return path.is_dir() and (path / INDEX).is_file() and PipelineFolder(path).kind not in PLAIN


def load(path: Path) -> ConvertedModel:
    """Convert a pipeline.

    Raises:
        ValueError: its class is unknown, or a part is missing, unknown or does not fit the others; the message names
            it.
    """
    folder = PipelineFolder(path)
    if folder.kind not in PIPELINES:
        networks = [name for name in ("unet", "transformer", "prior") if name in folder]
        raise ValueError(
            f"{folder.kind} is not supported; pipelines that are read: {', '.join(sorted({*PIPELINES, *PLAIN}))}"
            + (f"; file={path / networks[0]} reads its network alone" if networks else "")
        )
    return PIPELINES[folder.kind](folder)


def weights_of(path: Path) -> list[Path]:
    """Return the files of weights of a pipeline, without following names out of its folder."""
    return sorted(
        file
        for name in PipelineFolder(path).parts
        for file in (path / name).glob("*")
        if file.suffix in (".safetensors", ".bin") and file.is_file()
    )
