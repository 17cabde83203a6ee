"""UNet2DModel of diffusers, written from its description alone: the oracle of the imported networks.

The network is evaluated once and requests tensors by name and shape, which also defines the tensors of a file. It is
independent of the networks of sde_gen.
"""

import json
import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.reference.score_sde import Weights, drawn, given


def random_tensors(config: Mapping[str, Any]) -> dict[str, Tensor]:
    """A value for every tensor of a network, float32."""
    return dict(_random_tensors(json.dumps(config)))


@cache
def _random_tensors(text: str) -> dict[str, Tensor]:
    config, (made, weights) = json.loads(text), drawn()
    forward(
        config,
        weights,
        torch.zeros(1, config["in_channels"], 8, 8, dtype=torch.float64),
        torch.ones(1),
        torch.zeros(1).long(),
    )
    return {name: value.contiguous() for name, value in made.items()}


def evaluate(
    tensors: Mapping[str, Tensor],
    config: Mapping[str, Any],
    x: Tensor,
    t: Tensor,
    label: Tensor | None = None,
) -> Tensor:
    """Return the output at x and t, in float64."""
    return forward(config, given(tensors), x, t, label)


def forward(
    config: Mapping[str, Any], weights: Weights, x: Tensor, t: Tensor, label: Tensor | None
) -> Tensor:
    """Return the output at x and t."""
    channels, blocks = config["block_out_channels"], config["layers_per_block"]
    levels, seen = len(channels), 4 * channels[0]
    skip = "Skip" in config["down_block_types"][0]
    rescale = 0.5**0.5 if skip else 1.0
    modulated = config.get("resnet_time_scale_shift", "default") == "scale_shift"
    t = t.double()

    def conv(name: str, h: Tensor, outputs: int, size: int = 3, **how: Any) -> Tensor:
        weight = weights(f"{name}.weight", outputs, h.shape[1], size, size)
        return F.conv2d(h, weight, weights(f"{name}.bias", outputs), **{"padding": size // 2, **how})

    def dense(name: str, h: Tensor, outputs: int) -> Tensor:
        return h @ weights(f"{name}.weight", outputs, h.shape[-1]).T + weights(f"{name}.bias", outputs)

    def quarter(count: int) -> int:
        return min(count // 4, 32)

    def norm(name: str, h: Tensor, groups: int) -> Tensor:
        scale, shift = weights(f"{name}.weight", h.shape[1]), weights(f"{name}.bias", h.shape[1])
        return F.group_norm(h, groups, scale, shift, config["norm_eps"])

    def groups_of(count: int) -> int:
        fixed = config["norm_num_groups"]
        return quarter(count) if fixed is None else fixed

    def shrink(h: Tensor) -> Tensor:
        return filtered(h, 1)[:, :, ::2, ::2]

    def grow(h: Tensor) -> Tensor:
        wide = h.new_zeros(*h.shape[:2], 2 * h.shape[2], 2 * h.shape[3])
        wide[:, :, ::2, ::2] = 4 * h
        return filtered(wide, 2)

    def filtered(h: Tensor, before: int) -> Tensor:
        """The filter (1, 3, 3, 1) in both directions, as a sum over shifted copies."""
        for dim in (2, 3):
            h = F.pad(h.movedim(dim, -1), (before, 3 - before))
            count = h.shape[-1] - 3
            h = sum(tap / 8 * h[..., at : at + count] for at, tap in enumerate((1, 3, 3, 1))).movedim(-1, dim)
        return h

    def block(name: str, x: Tensor, outputs: int, *, groups: int | None = None, change: Any = None) -> Tensor:
        h = F.silu(norm(f"{name}.norm1", x, groups_of(x.shape[1]) if groups is None else groups))
        if change is not None:
            x, h = change(x), change(h)
        h = conv(f"{name}.conv1", h, outputs)
        cond = dense(f"{name}.time_emb_proj", F.silu(emb), (1 + modulated) * outputs)[:, :, None, None]
        h = norm(f"{name}.norm2", h if modulated else h + cond, groups_of(outputs))
        if modulated:
            h = h * (1 + cond[:, :outputs]) + cond[:, outputs:]
        h = conv(f"{name}.conv2", F.silu(h), outputs)
        if x.shape[1] != outputs or (change is not None and skip):
            x = conv(f"{name}.conv_shortcut", x, outputs, 1)
        return (x + h) * rescale

    def inside(kind: str, key: str) -> bool:
        """Return whether the resolution changes inside a residual block."""
        return "Resnet" in kind or ("Attn" in kind and config.get(key) == "resnet")

    def attention(name: str, x: Tensor, groups: int | None) -> Tensor:
        count = x.shape[1]
        h = x if groups is None else norm(f"{name}.group_norm", x, groups)
        rows = h.flatten(2).mT  # (B, places, C)
        query, key, value = (dense(f"{name}.to_{part}", rows, count) for part in "qkv")
        width = config["attention_head_dim"] or count
        heads = []
        for at in range(0, count, width):
            head = slice(at, at + width)
            weight = torch.softmax(query[..., head] @ key[..., head].mT / math.sqrt(width), dim=-1)
            heads.append(weight @ value[..., head])
        out = dense(f"{name}.to_out.0", torch.cat(heads, dim=-1), count)
        return (x + out.mT.reshape(x.shape)) * rescale

    if config.get("center_input_sample"):
        x = 2 * x - 1
    half = channels[0] // 2
    label_kind = config.get("time_embedding_type", "positional")
    if label_kind == "learned":
        features = weights("time_proj.weight", config["num_train_timesteps"], channels[0])[t.round().long()]
    elif label_kind == "fourier":
        angle = 2 * math.pi * torch.log(t)[:, None] * weights("time_proj.weight", channels[0])
        features = torch.cat([angle.sin(), angle.cos()], dim=1)
    else:
        place = torch.arange(half, dtype=torch.float64) / (half - config["freq_shift"])
        angle = t[:, None] * 10000.0**-place
        both = (angle.cos(), angle.sin()) if config["flip_sin_to_cos"] else (angle.sin(), angle.cos())
        features = torch.cat(both, dim=1)
    emb = dense("time_embedding.linear_2", F.silu(dense("time_embedding.linear_1", features, seen)), seen)
    if config.get("num_class_embeds"):
        assert label is not None
        emb = emb + weights("class_embedding.weight", config["num_class_embeds"], seen)[label]

    image, h = x, conv("conv_in", x, channels[0])
    skips = [h]
    for level, (kind, count) in enumerate(zip(config["down_block_types"], channels, strict=True)):
        at = f"down_blocks.{level}"
        for index in range(blocks):
            h = block(f"{at}.resnets.{index}", h, count)
            if "Attn" in kind:
                h = attention(f"{at}.attentions.{index}", h, 32 if skip else groups_of(count))
            skips.append(h)
        if level == levels - 1:
            break
        if skip:
            h, image = block(f"{at}.resnet_down", h, count, change=shrink), shrink(image)
            h = h + conv(f"{at}.skip_conv", image, count, 1)
        elif inside(kind, "downsample_type"):
            h = block(f"{at}.downsamplers.0", h, count, change=lambda h: F.avg_pool2d(h, 2))
        elif config["downsample_padding"] == 0:
            h = conv(f"{at}.downsamplers.0.conv", F.pad(h, (0, 1, 0, 1)), count, stride=2, padding=0)
        else:
            h = conv(f"{at}.downsamplers.0.conv", h, count, stride=2)
        skips.append(h)
    h = block("mid_block.resnets.0", h, channels[-1])
    if config.get("add_attention", True):
        usual = None if modulated else groups_of(channels[-1])
        h = attention("mid_block.attentions.0", h, config.get("attn_norm_num_groups") or usual)
    h = block("mid_block.resnets.1", h, channels[-1])
    out: Tensor | None = None
    for place_up, (kind, count) in enumerate(zip(config["up_block_types"], channels[::-1], strict=True)):
        at, attends = f"up_blocks.{place_up}", "Attn" in kind
        for index in range(blocks + 1):
            h = torch.cat([h, skips.pop()], dim=1)
            h = block(f"{at}.resnets.{index}", h, count, groups=32 if skip and attends else None)
            if attends and not skip:
                h = attention(f"{at}.attentions.{index}", h, groups_of(count))
        if attends and skip:
            h = attention(f"{at}.attentions.0", h, 32)
        out = None if out is None else grow(out)
        if place_up == levels - 1:
            break
        if skip:
            here = conv(f"{at}.skip_conv", F.silu(norm(f"{at}.skip_norm", h, quarter(count))), 3)
            out = here if out is None else out + here
            h = block(f"{at}.resnet_up", h, count, change=grow)
        elif inside(kind, "upsample_type"):
            h = block(f"{at}.upsamplers.0", h, count, change=twice)
        else:
            h = conv(f"{at}.upsamplers.0.conv", twice(h), count)
    last = conv("conv_out", F.silu(norm("conv_norm_out", h, groups_of(channels[0]))), config["out_channels"])
    assert not skips
    whole = last if out is None else last + out
    return whole / t[:, None, None, None] if label_kind == "fourier" else whole


def twice(h: Tensor) -> Tensor:
    """Repeat every pixel in a square of four."""
    return h.repeat_interleave(2, 2).repeat_interleave(2, 3)
