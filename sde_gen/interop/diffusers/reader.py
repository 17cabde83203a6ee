"""Networks of diffusers with the process of their scheduler: UNet2DModel, and by dispatch others; autoencoders."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sde_gen.data.codec.uniform import UniformCodec
from sde_gen.data.conditioning.label import Label as ClassLabel
from sde_gen.data.conditioning.none import Unconditional
from sde_gen.interop.converted_model import ConvertedModel, ObjectSpec
from sde_gen.interop.diffusers import autoencoder_kl, conditional, pipelines, prior, schedulers, vq
from sde_gen.interop.diffusers.unet2d import Sizes, UNet2DLayout, renamed
from sde_gen.interop.diffusers.unet2d_plain import plain_layout
from sde_gen.interop.diffusers.unet2d_skip import UNet2DSkipLayout
from sde_gen.interop.formats import files
from sde_gen.interop.settings import choice, plausible
from sde_gen.interop.weight_mapper import WeightMapper
from sde_gen.model.unet.centered import CenteredInput

CONDITIONAL = {
    "unet2dconditionmodel": conditional.read_unet,
    "dittransformer2dmodel": conditional.read_dit,
    "transformer2dmodel": conditional.read_dit,
    "sd3transformer2dmodel": conditional.read_sd3,
    "priortransformer": prior.read,
}
"""Readers of the classes of networks with conditions."""

AUTOENCODERS: dict[str, Callable[[Mapping[str, Tensor], Mapping[str, Any]], ConvertedModel]] = {
    "autoencoderkl": autoencoder_kl.read,
    "vqmodel": vq.read,
}
"""Readers of the classes of autoencoders, which have no scheduler."""


def load(path: Path, config: Mapping[str, Any] | None = None) -> ConvertedModel:
    """Read a file of weights, or the index of several, with the network's ``config.json`` in the same folder.

    An autoencoder needs no scheduler. A folder is a whole pipeline with ``model_index.json``.

    Arguments:
        path: the weights, or the folder of a pipeline.
        config: content of ``scheduler_config.json``; None to search the network's folder and a folder ``scheduler`` in
            or beside it.

    Raises:
        ValueError: a file is missing; or as :func:`~sde_gen.interop.formats.files.read` and :func:`read`.
    """
    if path.is_dir():
        if config is not None:
            raise ValueError(
                "settings=... has no effect: the folder of a pipeline has the settings of all its parts"
            )
        return pipelines.load(path)
    folder = path.parent
    network = files.json_of(folder / "config.json") if (folder / "config.json").is_file() else {}
    kind = choice(
        {"_class_name": "UNet2DModel", **network}, "_class_name", "unet2dmodel", *CONDITIONAL, *AUTOENCODERS
    )
    if kind in AUTOENCODERS:
        stored = files.read(path)
        imported = AUTOENCODERS[kind](files.tensors(stored), network)
        return replace(imported, notes=imported.notes + files.dtype_notes(stored))
    if config is None:
        candidates = [
            parent / "scheduler_config.json"
            for parent in (folder, folder / "scheduler", folder.parent / "scheduler")
        ]
        scheduler = next((candidate for candidate in candidates if candidate.is_file()), None)
        if scheduler is None:
            raise ValueError(
                f"there is no scheduler_config.json in or beside {folder}; it defines the process that the network "
                "was trained on: give it as settings=..."
            )
        config = files.json_of(scheduler)
    if not network:
        raise ValueError(f"there is no {folder / 'config.json'}, which defines the network")
    stored = files.read(path)
    imported = read(files.tensors(stored), network, config)
    return replace(imported, notes=imported.notes + files.dtype_notes(stored))


def read(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any], scheduler: Mapping[str, Any]
) -> ConvertedModel:
    """Convert a network and its scheduler: here a ``UNet2DModel``, and others by :data:`CONDITIONAL`.

    The noise label is the step of the chain, counted from 0, for discrete schedulers, log(sigma) / 4 for EDM, and
    1000 t for rectified flow; the prediction type is ``prediction_type``. Images have range [-1, 1], or [0, 1] with
    ``center_input_sample``, where the network centers its input. With ``fourier`` features the label is log(sigma) and
    the output the score, -noise / sigma, so that the last convolutions change sign. Images then have range [0, 1];
    with centered input they have range [-1, 1] here and twice the noise level of the original.

    Settings of the samplers (``clip_sample``, ``thresholding``, fixed variances, grids) are not imported. The original
    class-conditional networks have no unconditional mode; here the null class adds zero to the embedding.

    Source: von Platen et al., diffusers 0.42, models/unets/unet_2d.py and schedulers.

    Arguments:
        tensors: the state dictionary.
        config: the arguments of ``UNet2DModel`` by name: its ``config.json``.
        scheduler: those of the scheduler, with its ``_class_name``.

    Raises:
        ValueError: settings are missing or unsupported, or tensors do not fit; the message names them.
    """
    kind = choice({"_class_name": "UNet2DModel", **config}, "_class_name", "unet2dmodel", *CONDITIONAL)
    if kind in CONDITIONAL:
        return CONDITIONAL[kind](tensors, config, scheduler)
    layout = layout_of(config)
    sizes = layout.sizes
    fourier = sizes.settings["time_embedding_type"] == "fourier"
    conventions = schedulers.conventions_of(
        scheduler, outputs=sizes.outputs, fourier=fourier, unit=2.0 if sizes.centered else 1.0
    )
    plausible(tensors, sizes.levels * sizes.blocks)
    with torch.device("meta"):
        mapper = WeightMapper(renamed(tensors), layout.spec().make())
    layout.map_weights(mapper)
    state, net = mapper.finish(), layout.spec()
    if conventions.sign != 1:
        for name in (f"{head}.{part}" for head in layout.output_layers() for part in ("weight", "bias")):
            state[name] = conventions.sign * state[name]
    if sizes.centered and not fourier:
        net, state = (
            ObjectSpec(CenteredInput, net=net),
            {f"net.{name}": value for name, value in state.items()},
        )
    low = 0.0 if sizes.centered != fourier else -1.0
    labels = (
        ObjectSpec(ClassLabel, classes=sizes.classes, dropout=0.0)
        if sizes.classes
        else ObjectSpec(Unconditional)
    )
    return ConvertedModel(
        config={
            "model": net.config(),
            "sde": conventions.sde.config(),
            "parametrization": conventions.parametrization.config(),
            "codec": ObjectSpec(UniformCodec, levels=256, low=low, high=1.0).config(),
            "conditioning": labels.config(),
        },
        shape=tuple(sizes.shape),
        levels=256,
        classes=sizes.classes,
        state=state,
        unused=mapper.unused,
        notes=conventions.notes,
    )


def layout_of(config: Mapping[str, Any]) -> UNet2DLayout:
    """Return the layout of the network that the settings define.

    Raises:
        ValueError: the settings are not supported.
    """
    return UNet2DSkipLayout(config) if Sizes(config).skips else plain_layout(config)
