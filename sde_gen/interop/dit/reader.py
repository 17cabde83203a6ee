"""Networks of the code of DiT, whose sizes follow from their weights, with its process."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sde_gen.data.codec.affine import Affine
from sde_gen.data.codec.uniform import UniformCodec
from sde_gen.data.conditioning.label import Label as ClassLabel
from sde_gen.denoiser.parametrization.eps import Eps
from sde_gen.denoiser.parametrization.label import Time
from sde_gen.denoiser.parametrization.learned_range import LearnedVariance
from sde_gen.interop.converted_model import ConvertedModel, ObjectSpec
from sde_gen.interop.formats import files
from sde_gen.interop.patch_rows import rows_of_patches
from sde_gen.interop.settings import listing, whole
from sde_gen.interop.weight_mapper import WeightMapper
from sde_gen.model.transformer.dit import DiT
from sde_gen.sde.ddpm import DDPM, linear_betas

HEADS = {384: 6, 768: 12, 1024: 16, 1152: 16}
"""Heads of the published networks (S, B, L, XL) by their width."""

DROPPED = 0.1
"""Share of labels that their training drops."""

STEPS = 1000
"""Steps of their chain."""

LAYERS = {
    "adaLN_modulation.1": "modulation.project",
    "attn.proj": "attention.out",
    "mlp.fc1": "mlp.0",
    "mlp.fc2": "mlp.2",
}
"""Layers of a block: names there and here."""


def load(path: Path, config: Mapping[str, Any] | None = None) -> ConvertedModel:
    """Read a file of weights: a published one, or a checkpoint of their training, of which the averages are taken.

    Arguments:
        path: the file.
        config: ``num_heads`` of a network whose width is none of the published ones; None for nothing.

    Raises:
        ValueError: as :func:`~sde_gen.interop.formats.files.read` and :func:`read`.
    """
    stored = files.read(path)
    training = isinstance(stored, dict) and {"ema", "model"} <= stored.keys()
    tensors = files.tensors(stored, "ema") if training else files.tensors(stored)
    imported = read(tensors, {} if config is None else config)
    return imported if training else replace(imported, notes=imported.notes + files.dtype_notes(stored))


def read(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> ConvertedModel:
    """Convert a network.

    The process is their chain of 1000 steps with linear betas, the output noise and a learned variance. The last row
    of the class embedding is the null class.

    Source: Peebles and Xie, 2022, arXiv:2212.09748; names and layouts: their code (facebookresearch/DiT, models.py).

    Arguments:
        tensors: the state dictionary.
        config: ``num_heads``, or nothing.

    Raises:
        ValueError: a setting is unknown or missing, or tensors do not fit; the message names them.
    """
    if unknown := [key for key in config if key != "num_heads"]:
        raise ValueError(
            f"DiT has no setting {listing(unknown)} but num_heads; sizes follow from the weights"
        )
    stem = _need(tensors, "x_embedder.proj.weight", 4)
    places = _need(tensors, "pos_embed", 3)
    rows = _need(tensors, "y_embedder.embedding_table.weight", 2)
    last = _need(tensors, "final_layer.linear.weight", 2)
    width, channels, patch = stem.shape[:3]
    depth, grid = _depth(tensors), isqrt(places.shape[1])
    outputs, rest = divmod(last.shape[0], channels * patch * patch)
    if rest or outputs not in (1, 2) or grid * grid != places.shape[1] or len(rows) < 2 or depth == 0:
        raise ValueError(
            f"x_embedder.proj.weight {tuple(stem.shape)}, pos_embed {tuple(places.shape)}, final_layer.linear.weight "
            f"{tuple(last.shape)} and {depth} blocks are no DiT of square images"
        )
    if width not in HEADS and "num_heads" not in config:
        raise ValueError(
            f"the number of heads of a DiT of width {width} is not known: give settings=FILE with num_heads"
        )
    shape = [channels, grid * patch, grid * patch]
    spec = ObjectSpec(
        DiT,
        shape=shape,
        patch=[patch],
        width=width,
        depth=depth,
        heads=whole(config, "num_heads") if "num_heads" in config else HEADS[width],
        num_classes=len(rows) - 1,
        outputs=outputs,
        stored_positions=True,
    )
    with torch.device("meta"):
        mapper = WeightMapper(tensors, spec.make())
    _map(mapper, depth, patch, width)
    prediction = ObjectSpec(Eps, label=ObjectSpec(Time, scale=float(STEPS), offset=-1.0))
    image = channels in (1, 3)
    return ConvertedModel(
        config={
            "model": spec.config(),
            "sde": ObjectSpec(DDPM, betas=ObjectSpec(linear_betas, steps=STEPS)).config(),
            "parametrization": (
                ObjectSpec(LearnedVariance, mean=prediction) if outputs == 2 else prediction
            ).config(),
            "codec": (
                ObjectSpec(UniformCodec, levels=256) if image else ObjectSpec(Affine, shift=0.0, scale=1.0)
            ).config(),
            "conditioning": ObjectSpec(ClassLabel, classes=len(rows) - 1, dropout=DROPPED).config(),
        },
        shape=tuple(shape),
        levels=256 if image else None,
        classes=len(rows) - 1,
        state=mapper.finish(),
        unused=mapper.unused,
    )


def _map(mapper: WeightMapper, depth: int, patch: int, width: int) -> None:
    """Copy the tensors."""
    for target, source in (
        ("embed.0", "t_embedder.mlp.0"),
        ("embed.2", "t_embedder.mlp.2"),
        ("modulation.project", "final_layer.adaLN_modulation.1"),
    ):
        mapper.copy_layer(target, source)
    mapper.copy("classes.weight", "y_embedder.embedding_table.weight")
    mapper.copy("positions", "pos_embed", lambda table: table[0])
    mapper.copy_layer("stem.0", "x_embedder.proj", lambda weight: weight.flatten(1))
    for kind in ("weight", "bias"):
        mapper.copy(f"out.{kind}", f"final_layer.linear.{kind}", rows_of_patches(patch))
    for index in range(depth):
        for source, target in LAYERS.items():
            mapper.copy_layer(f"blocks.{index}.{target}", f"blocks.{index}.{source}")
        for turn, part in enumerate(("query", "key", "value")):
            for kind in ("weight", "bias"):
                target, source = f"blocks.{index}.attention.{part}.{kind}", f"blocks.{index}.attn.qkv.{kind}"
                mapper.copy(target, source, _third(turn, width))


def _third(turn: int, width: int) -> Callable[[Tensor], Tensor]:
    return lambda value: value[turn * width : (turn + 1) * width]


def _depth(tensors: Mapping[str, Tensor]) -> int:
    """Return the number of blocks."""
    numbers = {name.split(".")[1] for name in tensors if name.startswith("blocks.")}
    return len(numbers)


def _need(tensors: Mapping[str, Tensor], name: str, rank: int) -> Tensor:
    if name not in tensors or tensors[name].ndim != rank:
        raise ValueError(f"the file holds no {name} of rank {rank}, as a network of the authors of DiT has")
    return tensors[name]
