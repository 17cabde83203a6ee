"""Networks of guided-diffusion and improved-diffusion, with or without classes and learned variances."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sde_gen.data.codec.uniform import UniformCodec
from sde_gen.data.conditioning.label import Label as ClassLabel
from sde_gen.data.conditioning.none import Unconditional
from sde_gen.denoiser.parametrization.eps import Eps
from sde_gen.denoiser.parametrization.learned_range import LearnedVariance
from sde_gen.denoiser.parametrization.x0 import X0
from sde_gen.interop.converted_model import ConvertedModel, ObjectSpec
from sde_gen.interop.formats import files
from sde_gen.interop.guided_diffusion.network import ASSUMED, Body, chain
from sde_gen.interop.guided_diffusion.settings import of_unet
from sde_gen.interop.settings import MOST_CLASSES, flag, given, plausible, whole
from sde_gen.interop.weight_mapper import WeightMapper
from sde_gen.model.adm.adm import ADM


def load(path: Path, config: Mapping[str, Any] | None) -> ConvertedModel:
    """Read a file of a state dictionary.

    Arguments:
        path: the file.
        config: as in :func:`read`.

    Raises:
        ValueError: as :func:`~sde_gen.interop.formats.files.read` and :func:`read`.
    """
    return read(files.tensors(files.read(path)), given(config))


def read(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> ConvertedModel:
    """Convert a ``UNetModel`` of guided-diffusion; the process is its discrete chain, the noise label the step number.

    Images have range [-1, 1]. The original class-conditional networks have no unconditional mode; here the null class
    adds zero to the embedding, an input that was never trained.

    Source: Dhariwal and Nichol, 2021, arXiv:2105.05233; names and order: guided-diffusion, unet.py.

    Arguments:
        tensors: the state dictionary.
        config: either the arguments of ``UNetModel`` by name, with ``attention_resolutions`` as downsampling factors,
            ``predict_xstart``, and the settings of the chain: ``noise_schedule`` (linear or cosine), ``steps`` (1000)
            and ``rescale_timesteps``; or the flags of the original scripts.

    Raises:
        ValueError: settings are not supported, or tensors do not fit; the message names them.
    """
    config = of_unet(config)
    body = Body(config)
    body.check_file(tensors, images=True)
    channels, size = body.channels, body.size
    classes = whole(
        {"num_classes": config.get("num_classes") or 0}, "num_classes", minimum=0, maximum=MOST_CLASSES
    )
    outputs, rest = divmod(whole(config, "out_channels"), channels)
    if rest or outputs not in (1, 2):
        raise ValueError(
            f"out_channels={config['out_channels']}: expected {channels}, or {2 * channels} with a variance"
        )
    spec = ObjectSpec(ADM, **body.keywords, **_up_heads(config), num_classes=classes, outputs=outputs)
    plausible(tensors, body.repeated)
    with torch.device("meta"):
        net: ADM = spec.make()
    mapper = WeightMapper(_with_null_class(tensors), net)
    if classes:
        mapper.copy("classes.weight", "label_emb.weight")
    body.map_weights(mapper, net, net.up)
    mapper.copy_layer("norm", "out.0")
    mapper.copy_layer("out", "out.2")
    sde, label = chain(config)
    mean = ObjectSpec(X0 if flag({"predict_xstart": False, **config}, "predict_xstart") else Eps, label=label)
    labels = ObjectSpec(ClassLabel, classes=classes, dropout=0.0)
    return ConvertedModel(
        config={
            "model": spec.config(),
            "sde": sde.config(),
            "parametrization": (ObjectSpec(LearnedVariance, mean=mean) if outputs == 2 else mean).config(),
            "codec": ObjectSpec(UniformCodec, levels=256, low=-1.0, high=1.0).config(),
            "conditioning": (labels if classes else ObjectSpec(Unconditional)).config(),
        },
        shape=(channels, size, size),
        levels=256,
        classes=classes,
        state=mapper.finish(),
        unused=mapper.unused,
    )


def _up_heads(config: Mapping[str, Any]) -> dict[str, int]:
    """Return the number of heads of the decoder if it differs from the encoder's and heads have no fixed width."""
    config = {**ASSUMED, "num_heads_upsample": -1, **config}
    settings = config["num_heads_upsample"] != -1 and config["num_head_channels"] == -1
    heads = whole(config, "num_heads_upsample") if settings else config["num_heads"]
    return {} if heads == config["num_heads"] else {"up_heads": heads}


def _with_null_class(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Append a row of zeros, the embedding of the null class."""
    rows = tensors.get("label_emb.weight")
    if rows is None or rows.ndim != 2:
        return dict(tensors)
    return {**tensors, "label_emb.weight": torch.cat([rows, torch.zeros_like(rows[:1])])}
