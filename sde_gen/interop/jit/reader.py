"""Networks of the code of JiT, whose sizes follow from their weights, with its process."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sde_gen.data.codec.uniform import UniformCodec
from sde_gen.data.conditioning.label import Label as ClassLabel
from sde_gen.denoiser.parametrization.label import Time
from sde_gen.denoiser.parametrization.x0 import X0
from sde_gen.interop.converted_model import ConvertedModel, ObjectSpec
from sde_gen.interop.formats import files
from sde_gen.interop.patch_rows import rows_of_patches
from sde_gen.interop.settings import listing, whole
from sde_gen.interop.weight_mapper import WeightMapper
from sde_gen.model.transformer.jit import JiT
from sde_gen.sde.rectified import Rectified

SIZES = {768: (12, 4), 1024: (16, 8), 1280: (16, 10)}
"""Heads, and block from which on there are class tokens, of the published networks (B, L, H) by their width."""

DROPPED = 0.1
"""Share of labels that their training drops."""

LAYERS = {
    "adaLN_modulation.1": "modulation.project",
    "attn.proj": "out",
    "mlp.w12": "up",
    "mlp.w3": "down",
}
"""Layers of a block: names there and here."""

NORMS = {
    "norm1": "norm_attention",
    "norm2": "norm_mlp",
    "attn.q_norm": "norm_query",
    "attn.k_norm": "norm_key",
}
"""Normalizations of a block: names there and here."""


def load(path: Path, config: Mapping[str, Any] | None = None) -> ConvertedModel:
    """Read a file of weights, or a checkpoint of their training, of which the first averages are taken.

    Arguments:
        path: the file.
        config: as in :func:`read`; None for nothing.

    Raises:
        ValueError: as :func:`~sde_gen.interop.formats.files.read` and :func:`read`.
    """
    stored = files.read(path)
    training = isinstance(stored, dict) and "model_ema1" in stored
    tensors = files.tensors(stored, "model_ema1") if training else files.tensors(stored)
    imported = read(tensors, {} if config is None else config)
    return imported if training else replace(imported, notes=imported.notes + files.dtype_notes(stored))


def read(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> ConvertedModel:
    """Convert a network.

    It predicts the clean image on rectified flow; its time is 1 - t. The last row of the class embedding is the null
    class.

    Source: Li and He, 2025, arXiv:2511.13720; names and layouts: their code (LTH14/JiT, model_jit.py).

    Arguments:
        tensors: the state dictionary.
        config: ``num_heads`` and ``in_context_start`` of a network whose width is none of the published ones.

    Raises:
        ValueError: a setting is unknown or missing, or tensors do not fit; the message names them.
    """
    if unknown := [key for key in config if key not in ("num_heads", "in_context_start")]:
        raise ValueError(
            f"JiT has no setting {listing(unknown)} but num_heads and in_context_start; sizes follow from the weights"
        )
    tensors = {name.removeprefix("net."): value for name, value in tensors.items()}
    first = _need(tensors, "x_embedder.proj1.weight", 4)
    places = _need(tensors, "pos_embed", 3)
    rows = _need(tensors, "y_embedder.embedding_table.weight", 2)
    units = _need(tensors, "blocks.0.mlp.w3.weight", 2)
    bottleneck, channels, patch = first.shape[:3]
    width, grid = places.shape[2], isqrt(places.shape[1])
    depth = len({name.split(".")[1] for name in tensors if name.startswith("blocks.")})
    tokens = tensors["in_context_posemb"].shape[1] if "in_context_posemb" in tensors else 0
    if grid * grid != places.shape[1] or len(rows) < 2:
        raise ValueError(
            f"pos_embed {tuple(places.shape)} and y_embedder.embedding_table.weight {tuple(rows.shape)} are no JiT of "
            "square images"
        )
    if width not in SIZES and not {"num_heads", "in_context_start"} <= config.keys():
        raise ValueError(
            f"the heads of a JiT of width {width} are not known: give settings=FILE with num_heads and in_context_start"
        )
    heads, start = SIZES.get(width, (1, 0))
    shape = [channels, grid * patch, grid * patch]
    spec = ObjectSpec(
        JiT,
        shape=shape,
        patch=[patch],
        width=width,
        depth=depth,
        heads=whole(config, "num_heads") if "num_heads" in config else heads,
        hidden=units.shape[1],
        bottleneck=bottleneck,
        class_tokens=tokens,
        class_start=whole(config, "in_context_start", minimum=0) if "in_context_start" in config else start,
        num_classes=len(rows) - 1,
        stored_positions=True,
    )
    with torch.device("meta"):
        mapper = WeightMapper(tensors, spec.make())
    _map(mapper, depth, patch, width, tokens)
    return ConvertedModel(
        config={
            "model": spec.config(),
            "sde": ObjectSpec(Rectified).config(),
            "parametrization": ObjectSpec(X0, label=ObjectSpec(Time, scale=-1.0, offset=1.0)).config(),
            "codec": ObjectSpec(UniformCodec, levels=256).config(),
            "conditioning": ObjectSpec(ClassLabel, classes=len(rows) - 1, dropout=DROPPED).config(),
        },
        shape=tuple(shape),
        levels=256,
        classes=len(rows) - 1,
        state=mapper.finish(),
        unused=mapper.unused,
    )


def _map(mapper: WeightMapper, depth: int, patch: int, width: int, tokens: int) -> None:
    """Copy the tensors."""
    for target, source in (
        ("embed.0", "t_embedder.mlp.0"),
        ("embed.2", "t_embedder.mlp.2"),
        ("modulation.project", "final_layer.adaLN_modulation.1"),
    ):
        mapper.copy_layer(target, source)
    mapper.copy("classes.weight", "y_embedder.embedding_table.weight")
    mapper.copy("positions", "pos_embed", lambda table: table[0])
    mapper.copy("stem.0.weight", "x_embedder.proj1.weight", lambda weight: weight.flatten(1))
    mapper.copy_layer("stem.1", "x_embedder.proj2", lambda weight: weight.flatten(1))
    mapper.copy("norm.scale", "final_layer.norm_final.weight")
    for kind in ("weight", "bias"):
        mapper.copy(f"out.{kind}", f"final_layer.linear.{kind}", rows_of_patches(patch))
    if tokens:
        mapper.copy("class_places", "in_context_posemb", lambda table: table[0])
    for index in range(depth):
        at = f"blocks.{index}"
        for source, target in LAYERS.items():
            mapper.copy_layer(f"{at}.{target}", f"{at}.{source}")
        for source, target in NORMS.items():
            mapper.copy(f"{at}.{target}.scale", f"{at}.{source}.weight")
        for turn, part in enumerate(("query", "key", "value")):
            for kind in ("weight", "bias"):
                mapper.copy(f"{at}.{part}.{kind}", f"{at}.attn.qkv.{kind}", _third(turn, width))
    for rope in ("feat_rope", "feat_rope_incontext"):
        for part in ("freqs_cos", "freqs_sin"):
            mapper.ignore(f"{rope}.{part}", "the rotations, which are computed")


def _third(turn: int, width: int) -> Callable[[Tensor], Tensor]:
    return lambda value: value[turn * width : (turn + 1) * width]


def _need(tensors: Mapping[str, Tensor], name: str, rank: int) -> Tensor:
    if name not in tensors or tensors[name].ndim != rank:
        raise ValueError(f"the file holds no {name} of rank {rank}, as a network of the authors of JiT has")
    return tensors[name]
