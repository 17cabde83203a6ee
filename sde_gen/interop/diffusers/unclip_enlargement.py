"""Networks of unCLIP of diffusers that enlarge images; scheduler and sampler of all its stages."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sde_gen.data.codec.uniform import UniformCodec
from sde_gen.data.conditioning.enlarged_image import EnlargedImage
from sde_gen.interop.converted_model import ConvertedModel, ObjectSpec
from sde_gen.interop.diffusers import samplers, schedulers
from sde_gen.interop.diffusers.pipeline_folder import PipelineFolder
from sde_gen.interop.diffusers.unet2d import renamed
from sde_gen.interop.diffusers.unet2d_plain import plain_layout
from sde_gen.interop.formats import files
from sde_gen.interop.settings import choice, plausible
from sde_gen.interop.weight_mapper import WeightMapper
from sde_gen.model.experts import NoiseExperts

ENLARGED_STEPS = 7
"""Steps of the enlargement by default."""

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

BOUNDARY = 0.5
"""Noise label below which the network of the last step is called, which is that of step 0."""


def enlargement(folder: PipelineFolder, given: tuple[int, ...]) -> ConvertedModel:
    """Convert the networks that enlarge: that of the last step, and that of all others.

    Arguments:
        folder: the pipeline.
        given: shape of the images that the decoder draws.
    """
    scheduler = scheduler_of(folder, "super_res_scheduler")
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
    return with_sampler(found, scheduler, ENLARGED_STEPS)


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


def scheduler_of(folder: PipelineFolder, name: str) -> dict[str, Any]:
    """Return the settings of a scheduler of a stage.

    Raises:
        ValueError: its table is another one.
    """
    found = {**DEFAULTS, **folder.settings_of(name)}
    choice(found, "beta_schedule", schedulers.COSINE)
    return found


def with_sampler(
    model: ConvertedModel, scheduler: Mapping[str, Any], steps: int, scale: float | None = None
) -> ConvertedModel:
    """Return a model with its sampler, and with a scale of guidance, as default."""
    default = samplers.sampler_of(scheduler, model.config["sde"].get("betas"), steps)
    config: dict[str, Any] = {**model.config, **(default.sampler or {})}
    if scale is not None:
        config["sampling"] = {**config["sampling"], "guidance": scale}
    return replace(model, config=config, notes=(*model.notes, *default.notes))
