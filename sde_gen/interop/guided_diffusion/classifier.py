"""Classifiers of noisy images of guided-diffusion."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sde_gen.data.codec.uniform import UniformCodec
from sde_gen.denoiser.parametrization.eps import Eps
from sde_gen.interop.converted_model import ConvertedModel, ObjectSpec
from sde_gen.interop.formats import files
from sde_gen.interop.guided_diffusion.network import Body, chain
from sde_gen.interop.guided_diffusion.settings import of_classifier
from sde_gen.interop.settings import MOST_CLASSES, choice, given, plausible, whole
from sde_gen.interop.weight_mapper import WeightMapper
from sde_gen.model.classifier.adm_encoder import ADMEncoder
from sde_gen.model.classifier.pooling import (
    AttentionPooling,
    AveragePooling,
    MultiScalePooling,
    NormalizedMultiScalePooling,
)
from sde_gen.objective.cross_entropy import CrossEntropy


def load(path: Path, config: Mapping[str, Any] | None) -> ConvertedModel:
    """Read a file with a state dictionary.

    Arguments:
        path: the file.
        config: as in :func:`read`.

    Raises:
        ValueError: as :func:`~sde_gen.interop.formats.files.read` and :func:`read`.
    """
    return read(files.tensors(files.read(path)), given(config))


def read(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> ConvertedModel:
    """Convert a classifier, for runs with the same chain and images in [-1, 1].

    Source: Dhariwal and Nichol, 2021, arXiv:2105.05233, section 4; names and order: guided-diffusion, unet.py.

    Arguments:
        tensors: the state dictionary.
        config: either the arguments of ``EncoderUNetModel`` by name, with ``attention_resolutions`` as downsampling
            factors and ``out_channels`` as number of classes, and the settings of the chain: ``noise_schedule`` (linear
            or cosine), ``steps`` (1000) and ``rescale_timesteps``; or the flags of the original scripts.

    Raises:
        ValueError: settings are not supported, or tensors do not fit; the message names them.
    """
    config = of_classifier(config)
    body = Body(config)
    body.check_file(tensors, images=False)
    channels, size, classes = body.channels, body.size, whole(config, "out_channels", maximum=MOST_CLASSES)
    pool = choice({"pool": "adaptive", **config}, "pool", *POOLS)
    if pool == "attention" and "head_channels" not in body.keywords:
        raise ValueError("pool=attention needs num_head_channels")
    size_of_heads = {"head_channels": body.keywords["head_channels"]} if pool == "attention" else {}
    spec = ObjectSpec(
        ADMEncoder, **body.keywords, num_classes=classes, pool=ObjectSpec(POOLS[pool], **size_of_heads)
    )
    plausible(tensors, body.repeated)
    with torch.device("meta"):
        net: ADMEncoder = spec.make()
    mapper = WeightMapper(tensors, net)
    body.map_weights(mapper, net)
    _move_pool(mapper, pool)
    sde, label = chain(config)
    return ConvertedModel(
        config={
            "model": spec.config(),
            "objective": ObjectSpec(CrossEntropy).config(),
            "sde": sde.config(),
            "parametrization": ObjectSpec(Eps, label=label).config(),
            "codec": ObjectSpec(UniformCodec, levels=256, low=-1.0, high=1.0).config(),
        },
        shape=(channels, size, size),
        levels=256,
        classes=classes,
        state=mapper.finish(),
        unused=mapper.unused,
    )


POOLS = {
    "adaptive": AveragePooling,
    "attention": AttentionPooling,
    "spatial": MultiScalePooling,
    "spatial_v2": NormalizedMultiScalePooling,
}
"""Pooling by its name in guided-diffusion."""


def _move_pool(mapper: WeightMapper, pool: str) -> None:
    if pool in ("adaptive", "attention"):
        mapper.copy_layer("pool.norm", "out.0")
    if pool == "adaptive":
        mapper.copy_layer("pool.out", "out.3", lambda w: w[..., 0, 0])
    elif pool == "attention":
        mapper.copy("pool.position", "out.2.positional_embedding", lambda x: x.mT)
        for third, part in enumerate(("query", "key", "value")):
            mapper.copy(f"pool.{part}.weight", "out.2.qkv_proj.weight", _third(third))
            mapper.copy(f"pool.{part}.bias", "out.2.qkv_proj.bias", _third(third))
        mapper.copy_layer("pool.out", "out.2.c_proj", lambda w: w[..., 0])
    else:
        mapper.copy_layer("pool.hidden", "out.0")
        if pool == "spatial_v2":
            mapper.copy_layer("pool.between.0", "out.1")
        mapper.copy_layer("pool.out", "out.3" if pool == "spatial_v2" else "out.2")


def _third(number: int) -> Callable[[Tensor], Tensor]:
    """Return the map from the convolution of queries, keys and values to the weight of one of them."""
    return lambda x: x.chunk(3)[number].flatten(1) if x.ndim > 1 else x.chunk(3)[number]
