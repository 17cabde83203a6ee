"""DhariwalUNet of EDM, written from its description alone, with the original heads and groups at every width.

The network is evaluated once and requests tensors by name and shape, which also defines the tensors of a file. It is
independent of the networks of sde_gen.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.reference.adm import double, halve
from tests.reference.score_sde import Weights


def forward(
    config: Mapping[str, Any], weights: Weights, x: Tensor, noise: Tensor, onehot: Tensor | None = None
) -> Tensor:
    """The output F at x, their noise labels and one-hot classes."""
    width, size, blocks = config["model_channels"], config["img_resolution"], config["num_blocks"]
    seen = width * config.get("channel_mult_emb", 4)

    def norm(name: str, h: Tensor) -> Tensor:
        count = h.shape[1]
        scale, shift = (weights(f"{name}.{kind}", count) for kind in ("weight", "bias"))
        return F.group_norm(h, min(32, count // 4), scale, shift, 1e-5)

    def conv(name: str, h: Tensor, outputs: int, side: int = 3) -> Tensor:
        weight = weights(f"{name}.weight", outputs, h.shape[1], side, side)
        return F.conv2d(h, weight, weights(f"{name}.bias", outputs), padding=side // 2)

    def dense(name: str, h: Tensor, outputs: int) -> Tensor:
        return h @ weights(f"{name}.weight", outputs, h.shape[1]).T + weights(f"{name}.bias", outputs)

    def block(name: str, x: Tensor, outputs: int, change: Any = None, *, attention: bool = False) -> Tensor:
        h = F.silu(norm(f"{name}.norm0", x))
        h, short = (h, x) if change is None else (change(h), change(x))
        h = conv(f"{name}.conv0", h, outputs)
        scale, shift = dense(f"{name}.affine", emb, 2 * outputs)[:, :, None, None].chunk(2, 1)
        h = F.silu(norm(f"{name}.norm1", h) * (1 + scale) + shift)
        h = conv(f"{name}.conv1", h, outputs)
        if x.shape[1] != outputs:
            short = conv(f"{name}.skip", short, outputs, 1)
        h = h + short
        if heads := attention * (outputs // 64):
            qkv = conv(f"{name}.qkv", norm(f"{name}.norm2", h), 3 * outputs, 1)
            query, key, value = qkv.reshape(len(h) * heads, outputs // heads, 3, -1).unbind(2)
            shares = (query.mT @ key / math.sqrt(outputs // heads)).softmax(2)
            h = h + conv(f"{name}.proj", (value @ shares.mT).reshape(h.shape), outputs, 1)
        return h

    angle = noise[:, None] * 10000.0 ** -(torch.arange(width // 2, dtype=torch.float64) / (width // 2))
    emb = torch.cat([angle.cos(), angle.sin()], 1)
    emb = dense("map_layer1", F.silu(dense("map_layer0", emb, seen)), seen)
    if onehot is not None:
        emb = emb + onehot @ weights("map_label.weight", seen, onehot.shape[1]).T
    emb = F.silu(emb)

    sides = [size >> level for level in range(len(config["channel_mult"]))]
    levels = [(f"{side}x{side}", side in config["attn_resolutions"], width * mult)
              for side, mult in zip(sides, config["channel_mult"], strict=True)]  # fmt: skip
    h, skips = x, []
    for at, attends, outputs in levels:
        h = block(f"enc.{at}_down", h, h.shape[1], halve) if skips else conv(f"enc.{at}_conv", h, outputs)
        skips.append(h)
        for index in range(blocks):
            h = block(f"enc.{at}_block{index}", h, outputs, attention=attends)
            skips.append(h)
    for at, attends, outputs in reversed(levels):
        if at == levels[-1][0]:
            h = block(f"dec.{at}_in0", h, outputs, attention=True)
            h = block(f"dec.{at}_in1", h, outputs)
        else:
            h = block(f"dec.{at}_up", h, h.shape[1], double)
        for index in range(blocks + 1):
            h = block(f"dec.{at}_block{index}", torch.cat([h, skips.pop()], 1), outputs, attention=attends)
    return conv("out_conv", F.silu(norm("out_norm", h)), config["img_channels"])
