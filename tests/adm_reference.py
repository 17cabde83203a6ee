"""What the UNetModel of guided-diffusion and improved-diffusion computes, read off its description alone.

It walks through the network once and asks for tensors by their names and shapes; so it says too which tensors a file
has. Nothing of it knows our networks.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.score_sde_reference import Weights


def forward(
    config: Mapping[str, Any],
    weights: Weights,
    x: Tensor,
    t: Tensor,
    y: Tensor | None,
    augment: Tensor | None = None,
) -> Tensor:
    """Their output at x, their labels t and classes y.

    EDM's rewriting of it has an embedding of any width (``channel_mult_emb``) and augmentation labels, whose linear
    image is added to the features of t.
    """
    width, blocks, multipliers = config["model_channels"], config["num_res_blocks"], config["channel_mult"]
    seen, in_blocks = config.get("channel_mult_emb", 4) * width, config["resblock_updown"]
    shift_and_scale, learned = config["use_scale_shift_norm"], config.get("conv_resample", True)

    def conv(name: str, h: Tensor, outputs: int, size: int = 3, **how: Any) -> Tensor:
        weight = weights(f"{name}.weight", outputs, h.shape[1], size, size)
        return F.conv2d(h, weight, weights(f"{name}.bias", outputs), **{"padding": size // 2, **how})

    def dense(name: str, h: Tensor, outputs: int) -> Tensor:
        return h @ weights(f"{name}.weight", outputs, h.shape[-1]).T + weights(f"{name}.bias", outputs)

    def norm(name: str, h: Tensor) -> Tensor:
        scale, shift = weights(f"{name}.weight", h.shape[1]), weights(f"{name}.bias", h.shape[1])
        return F.group_norm(h, 32, scale, shift, 1e-5)

    def halve(h: Tensor) -> Tensor:
        return h.unflatten(2, (-1, 2)).unflatten(4, (-1, 2)).mean((3, 5))

    def double(h: Tensor) -> Tensor:
        return h.repeat_interleave(2, 2).repeat_interleave(2, 3)

    def block(name: str, x: Tensor, outputs: int, change: Any = None) -> Tensor:
        h = F.silu(norm(f"{name}.in_layers.0", x))
        if change is not None:
            x, h = change(x), change(h)
        h = conv(f"{name}.in_layers.2", h, outputs)
        told = dense(f"{name}.emb_layers.1", F.silu(emb), (1 + shift_and_scale) * outputs)[:, :, None, None]
        if shift_and_scale:
            h = norm(f"{name}.out_layers.0", h) * (1 + told[:, :outputs]) + told[:, outputs:]
        else:
            h = norm(f"{name}.out_layers.0", h + told)
        h = conv(f"{name}.out_layers.3", F.silu(h), outputs)
        if x.shape[1] != outputs:
            x = conv(f"{name}.skip_connection", x, outputs, 1)
        return x + h

    def attention(name: str, x: Tensor) -> Tensor:
        count, places = x.shape[1], x.shape[2] * x.shape[3]
        size = config.get("num_head_channels", -1)
        heads = config.get("num_heads", 1) if size == -1 else count // size
        wide = norm(f"{name}.norm", x).flatten(2)
        weight, bias = (
            weights(f"{name}.qkv.weight", 3 * count, count, 1),
            weights(f"{name}.qkv.bias", 3 * count),
        )
        qkv = weight[..., 0] @ wide + bias[:, None]
        out, each = [], count // heads
        for head in range(heads):  # in the order of old: queries, keys and values of a head lie together
            query, key, value = qkv[:, 3 * each * head : 3 * each * (head + 1)].split(each, dim=1)
            shares = torch.softmax(query.mT @ key / math.sqrt(each), dim=-1)
            out.append(value @ shares.mT)
        weight, bias = (
            weights(f"{name}.proj_out.weight", count, count, 1),
            weights(f"{name}.proj_out.bias", count),
        )
        mixed = weight[..., 0] @ torch.cat(out, dim=1) + bias[:, None]
        assert mixed.shape[-1] == places
        return x + mixed.reshape(x.shape)

    frequencies = 10000.0 ** -(torch.arange(width // 2, dtype=torch.float64) / (width // 2))
    angle = t.double()[:, None] * frequencies
    emb = torch.cat([angle.cos(), angle.sin()], dim=1)
    if augment is not None:
        emb = emb + augment.double() @ weights("map_augment.weight", width, augment.shape[1]).T
    emb = dense("time_embed.2", F.silu(dense("time_embed.0", emb, seen)), seen)
    if config.get("num_classes"):
        emb = emb + weights("label_emb.weight", config["num_classes"], seen)[y]

    h = conv("input_blocks.0.0", x, int(multipliers[0] * width))
    skips, number, factor = [h], 1, 1
    for level, multiplier in enumerate(multipliers):
        for _ in range(blocks):
            h = block(f"input_blocks.{number}.0", h, int(multiplier * width))
            if factor in config["attention_resolutions"]:
                h = attention(f"input_blocks.{number}.1", h)
            skips.append(h)
            number += 1
        if level < len(multipliers) - 1:
            if in_blocks:
                h = block(f"input_blocks.{number}.0", h, h.shape[1], halve)
            else:
                h = conv(f"input_blocks.{number}.0.op", h, h.shape[1], stride=2) if learned else halve(h)
            skips.append(h)
            number, factor = number + 1, 2 * factor
    h = block("middle_block.0", h, h.shape[1])
    h = block("middle_block.2", attention("middle_block.1", h), h.shape[1])
    number = 0
    for level in reversed(range(len(multipliers))):
        for index in range(blocks + 1):
            name, part = f"output_blocks.{number}", 1
            h = block(f"{name}.0", torch.cat([h, skips.pop()], dim=1), int(multipliers[level] * width))
            if factor in config["attention_resolutions"]:
                h, part = attention(f"{name}.1", h), 2
            if level and index == blocks:
                if in_blocks:
                    h = block(f"{name}.{part}", h, h.shape[1], double)
                else:
                    h = conv(f"{name}.{part}.conv", double(h), h.shape[1]) if learned else double(h)
                factor //= 2
            number += 1
    assert not skips
    return conv("out.2", F.silu(norm("out.0", h)), config["out_channels"])
