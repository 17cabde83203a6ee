"""Vector-quantized autoencoders of diffusers: VQModel."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sde_gen.interop.converted_model import ConvertedModel, ObjectSpec
from sde_gen.interop.diffusers import autoencoder_kl
from sde_gen.interop.diffusers.autoencoder_kl import CoderSettings, converted
from sde_gen.interop.diffusers.unet2d import renamed
from sde_gen.interop.settings import choice, flag, plausible, whole
from sde_gen.interop.weight_mapper import WeightMapper
from sde_gen.model.autoencoder.vq import VQAutoencoder

DEFAULTS: dict[str, Any] = {
    **{
        key: value
        for key, value in autoencoder_kl.DEFAULTS.items()
        if key not in ("shift_factor", "latents_mean", "latents_std", "use_quant_conv", "use_post_quant_conv")
    },
    "latent_channels": 3,
    "num_vq_embeddings": 256,
    "vq_embed_dim": None,
    "norm_type": "group",
    "lookup_from_codebook": False,
    "force_upcast": False,
}
"""Arguments of the constructor of VQModel with their defaults."""


def read(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> ConvertedModel:
    """Convert a ``VQModel`` with group normalization; the weight of the commitment is 0.25, as there.

    Source: von Platen et al., diffusers 0.42, models/autoencoders/vq_model.py.

    Arguments:
        tensors: the state dictionary.
        config: the arguments of ``VQModel`` by name: its ``config.json``.

    Raises:
        ValueError: settings are missing or unsupported, or tensors do not fit; the message names them.
    """
    sizes = CoderSettings("VQModel", config, DEFAULTS)
    settings = sizes.settings
    choice(settings, "norm_type", "group")
    if flag(settings, "lookup_from_codebook"):
        raise ValueError(
            "lookup_from_codebook=true is not supported; expected false: decoding quantizes latents"
        )
    given = settings["vq_embed_dim"]
    size = sizes.latent_channels if given is None else whole(settings, "vq_embed_dim")
    codes = whole(settings, "num_vq_embeddings", minimum=2, maximum=2**20)
    net = ObjectSpec(
        VQAutoencoder,
        codes=codes,
        code_channels=size,
        commitment=0.25,
        **sizes.standardization(size),
        **sizes.common,
    )
    plausible(tensors, len(sizes.channels) * sizes.blocks)
    with torch.device("meta"):
        mapper = WeightMapper(renamed(tensors), net.make())
    sizes.map_coders(mapper)
    mapper.copy_layer("quant", "quant_conv")
    mapper.copy_layer("post_quant", "post_quant_conv")
    mapper.copy("codebook.weight", "quantize.embedding.weight")
    return converted(net, sizes.shape, mapper)
