"""Conversion of diffusers networks that are conditioned on classes, texts, vectors and images."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from sde_gen.data.codec.affine import Affine
from sde_gen.data.codec.uniform import UniformCodec
from sde_gen.data.conditioning.given import GivenTensors
from sde_gen.data.conditioning.label import Label as ClassLabel
from sde_gen.data.conditioning.none import Unconditional
from sde_gen.data.conditioning.several import Several
from sde_gen.interop.converted_model import ConvertedModel, ObjectSpec
from sde_gen.interop.diffusers import schedulers
from sde_gen.interop.diffusers.dit_transformer import DiTLayout
from sde_gen.interop.diffusers.sd3_transformer import SD3Layout
from sde_gen.interop.diffusers.unet2d import renamed
from sde_gen.interop.diffusers.unet2d_condition import UNet2DConditionLayout
from sde_gen.interop.settings import plausible
from sde_gen.interop.weight_mapper import WeightMapper
from sde_gen.model.unet.centered import CenteredInput

STEPS = 1000
"""Steps of the chain by which the noise level of a condition image is given, where the scheduler does not say."""

DROPPED = 0.1
"""Share of labels that the training of DiT drops (Peebles and Xie, 2022, arXiv:2212.09748, their code)."""


class Layout(Protocol):
    """Mapping of a network.

    Attributes:
        shape: event shape.
        outputs: output channels per channel of the event.
    """

    shape: list[int]
    outputs: int

    def spec(self) -> ObjectSpec:
        """Return the specification of the network."""

    def map_weights(self, mapper: WeightMapper) -> None:
        """Copy the tensors."""


def read_unet(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any], scheduler: Mapping[str, Any]
) -> ConvertedModel:
    """Convert a ``UNet2DConditionModel`` and its scheduler.

    The network takes the features of tokens that a text encoder outside has computed, and in ``vector`` what
    ``class_labels`` (a vector), ``text_embeds`` and ``time_ids`` are there, one after the other. Channels of the input
    beyond those of the prediction are the condition image. Without a class, zeros take the place of its embedding.

    Source: von Platen et al., diffusers 0.42, models/unets/unet_2d_condition.py.

    Arguments:
        tensors: the state dictionary.
        config: the arguments of ``UNet2DConditionModel`` by name: its ``config.json``.
        scheduler: those of the scheduler, with its ``_class_name``.

    Raises:
        ValueError: settings are missing or unsupported, or tensors do not fit; the message names them.
    """
    variance = scheduler.get("variance_type") in ("learned", "learned_range")
    layout = UNet2DConditionLayout(config, variance=variance)
    plausible(tensors, sum(layout.sizes.blocks))
    classes = layout.classes
    if "level" in layout.inputs:
        classes = int(scheduler.get("num_train_timesteps") or STEPS)
    given = conditioning(
        classes=classes,
        token=layout.token,
        vector=layout.vector,
        image=[layout.image, *layout.shape[1:]] if layout.image else None,
    )
    centered = bool(layout.sizes.settings["center_input_sample"])
    if centered and layout.image:
        raise ValueError("center_input_sample=true is not supported with more channels in than out")
    return converted(layout, tensors, scheduler, given, classes=classes, centered=centered)


def read_dit(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any], scheduler: Mapping[str, Any]
) -> ConvertedModel:
    """Convert a ``DiTTransformer2DModel``, in earlier files ``Transformer2DModel``, and its scheduler.

    Frequencies of the noise label are those of diffusers, which the authors' network does not have.

    Source: von Platen et al., diffusers 0.42, models/transformers/dit_transformer_2d.py.

    Raises:
        ValueError: as :func:`read_unet`.
    """
    layout = DiTLayout(config)
    given = conditioning(classes=layout.classes, token=None, vector=None, image=None, dropout=DROPPED)
    settings = dict(scheduler)
    if layout.outputs == 2:  # the pipeline drops the variance, and its schedulers do not mention it
        settings = {**settings, "variance_type": "learned_range"}
    return converted(layout, tensors, settings, given, classes=layout.classes)


def read_sd3(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any], scheduler: Mapping[str, Any]
) -> ConvertedModel:
    """Convert a ``SD3Transformer2DModel`` and its scheduler.

    Source: von Platen et al., diffusers 0.42, models/transformers/transformer_sd3.py.

    Raises:
        ValueError: as :func:`read_unet`.
    """
    layout = SD3Layout(config)
    given = conditioning(classes=0, token=layout.token, vector=layout.vector, image=None)
    return converted(layout, tensors, scheduler, given)


def converted(
    layout: Layout,
    tensors: Mapping[str, Tensor],
    scheduler: Mapping[str, Any],
    given: ObjectSpec,
    *,
    classes: int = 0,
    centered: bool = False,
) -> ConvertedModel:
    """Convert a network.

    Arguments:
        layout: its mapping.
        tensors: the state dictionary.
        scheduler: arguments of the scheduler.
        given: its conditioning.
        classes: number of classes, 0 for none.
        centered: whether the network centers its input.

    Raises:
        ValueError: the scheduler is not supported, or tensors do not fit.
    """
    conventions = schedulers.conventions_of(scheduler, outputs=layout.outputs, fourier=False, unit=1.0)
    net = layout.spec()
    with torch.device("meta"):
        mapper = WeightMapper(renamed(tensors), net.make())
    layout.map_weights(mapper)
    state = mapper.finish()
    for name in ("out.weight", "out.bias"):
        state[name] = conventions.sign * state[name]
    if centered:
        net = ObjectSpec(CenteredInput, net=net)
        state = {f"net.{name}": value for name, value in state.items()}
    image = layout.shape[0] in (1, 3)
    return ConvertedModel(
        config={
            "model": net.config(),
            "sde": conventions.sde.config(),
            "parametrization": conventions.parametrization.config(),
            "codec": codec(image=image, low=0.0 if centered else -1.0).config(),
            "conditioning": given.config(),
        },
        shape=tuple(layout.shape),
        levels=256 if image else None,
        classes=classes,
        state=state,
        unused=mapper.unused,
        notes=conventions.notes,
    )


def codec(*, image: bool, low: float = -1.0) -> ObjectSpec:
    """Return the codec of images with 256 levels, or of latents, which are as they are."""
    if not image:
        return ObjectSpec(Affine, shift=0.0, scale=1.0)
    return ObjectSpec(UniformCodec, levels=256, low=low, high=1.0)


def conditioning(
    *,
    classes: int,
    token: int | None,
    vector: int | None,
    image: list[int] | None,
    dropout: float = 0.0,
) -> ObjectSpec:
    """Return the conditioning of a network.

    Arguments:
        classes: number of classes, 0 for none.
        token: features of a token, None for no text.
        vector: length of the vector, negative for any; None for no vector.
        image: shape of the condition image, None for none.
        dropout: share of labels that were dropped in training.
    """
    parts: dict[str, ObjectSpec] = {}
    if classes:
        parts["label"] = ObjectSpec(ClassLabel, classes=classes, dropout=dropout)
    features: dict[str, list[int]] = {} if token is None else {"tokens": [-1, token]}
    if vector is not None:
        features["vector"] = [vector]
    if features:
        name = "vector" if token is None else "text"
        parts[name] = ObjectSpec(GivenTensors, name=name, features=features)
    if image is not None:
        parts["image"] = ObjectSpec(GivenTensors, name="image", features={"image": image})
    if len(parts) > 1:
        return ObjectSpec(Several, parts=parts, dropout=0.0)
    return next(iter(parts.values()), ObjectSpec(Unconditional))
