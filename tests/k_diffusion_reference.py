"""What k-diffusion's networks compute, read off their description alone: the oracle of the imported ones.

Each walks through a network once and asks for tensors by their names and shapes, so it says too which tensors a file
has. Nothing of it knows our networks.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.score_sde_reference import Weights


def denoised(
    walk: Any, config: Mapping[str, Any], weights: Weights, x: Tensor, sigma: Tensor, **told: Tensor
) -> Tensor:
    """Table 1 of Karras et al., 2022, around the network."""
    data = config["model"].get("sigma_data", 1.0)
    spread = (sigma**2 + data**2).sqrt().view(-1, 1, 1, 1)
    out = walk(config, weights, x / spread, sigma, **told)
    return data**2 / spread**2 * x + sigma.view(-1, 1, 1, 1) * data / spread * out


def waves(weights: Weights, name: str, values: Tensor, features: int) -> Tensor:
    """Cosines, then sines, of random frequencies."""
    angle = 2 * math.pi * values @ weights(name, features // 2, values.shape[1]).T
    return torch.cat([angle.cos(), angle.sin()], 1)


def filters(model: Mapping[str, Any]) -> dict[str, Tensor]:
    """The filters that a file of image_v1 holds: (1, 3, 3, 1) / 8 in both directions, four times as much to double."""
    wrap = "inner_model." if model.get("augment_wrapper", True) else ""
    line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    plane, found, levels = torch.outer(line, line), {}, len(model["depths"])
    for level in range(model.get("skip_stages", 0) + 1, levels):
        after = model["depths"][level] * (2 if model["self_attn_depths"][level] else 1)
        found[f"{wrap}u_net.d_blocks.{level}.0.kernel"] = plane
        found[f"{wrap}u_net.u_blocks.{levels - 1 - level}.{after}.kernel"] = 4 * plane
    return found


def image_v1(
    config: Mapping[str, Any],
    weights: Weights,
    x: Tensor,
    sigma: Tensor,
    *,
    augment: Tensor | None = None,
) -> Tensor:
    """Their U-Net: the output before preconditioning."""
    model, batch = config["model"], len(x)
    features, patch, skipped = model["mapping_out"], model.get("patch_size", 1), model.get("skip_stages", 0)
    numbers = 9 * model.get("augment_wrapper", True) + model.get("mapping_cond_dim", 0)
    wrap = "inner_model." if model.get("augment_wrapper", True) else ""

    def conv(name: str, h: Tensor, outputs: int, size: int, *, bias: bool = True) -> Tensor:
        weight = weights(f"{wrap}{name}.weight", outputs, h.shape[1], size, size)
        out = F.conv2d(h, weight, padding=size // 2)
        return out + weights(f"{wrap}{name}.bias", outputs)[:, None, None] if bias else out

    def dense(name: str, h: Tensor, outputs: int) -> Tensor:
        weight, bias = (
            weights(f"{wrap}{name}.weight", outputs, h.shape[1]),
            weights(f"{wrap}{name}.bias", outputs),
        )
        return torch.einsum("bi,oi->bo", h, weight) + bias

    def adaptive(name: str, h: Tensor) -> Tensor:
        """Normalise the channels in groups of 32, then scale and shift."""
        channels = h.shape[1]
        flat = h.reshape(batch, max(1, channels // 32), -1)
        normal = (flat - flat.mean(2, keepdim=True)) / (flat.var(2, correction=0, keepdim=True) + 1e-5).sqrt()
        told = dense(f"{name}.mapper", mapped, 2 * channels)[:, :, None, None]
        return normal.reshape(h.shape) * (1 + told[:, :channels]) + told[:, channels:]

    def block(name: str, h: Tensor, inner: int, outputs: int) -> Tensor:
        x = h if h.shape[1] == outputs else conv(f"{name}.skip", h, outputs, 1, bias=False)
        h = conv(f"{name}.main.2", F.gelu(adaptive(f"{name}.main.0", h)), inner, 3)
        return x + conv(f"{name}.main.6", F.gelu(adaptive(f"{name}.main.4", h)), outputs, 3)

    def attend(name: str, h: Tensor) -> Tensor:
        heads, channels = max(1, h.shape[1] // 64), h.shape[1]
        qkv = conv(f"{name}.qkv_proj", adaptive(f"{name}.norm_in", h), 3 * channels, 1)
        query, key, value = qkv.reshape(batch, 3, heads, channels // heads, -1).unbind(1)
        seen = torch.einsum("bhci,bhcj->bhij", query, key) / (channels // heads) ** 0.5
        mixed = torch.einsum("bhij,bhcj->bhci", seen.softmax(3), value).reshape(h.shape)
        return h + conv(f"{name}.out_proj", mixed, channels, 1)

    def line_down(h: Tensor) -> Tensor:
        """(1, 3, 3, 1) / 8 along the last axis of the mirrored line, every second place."""
        h = torch.cat([h[..., 1:2], h, h[..., -2:-1]], -1)
        count = h.shape[-1] - 3
        return sum(c / 8 * h[..., n : n + count] for n, c in enumerate((1, 3, 3, 1)))[..., ::2]

    def line_up(h: Tensor) -> Tensor:
        """A quarter of the farther and three of the nearer neighbour, in the mirrored line."""
        h = torch.cat([h[..., 1:2], h, h[..., -2:-1]], -1)
        left = 0.25 * h[..., :-2] + 0.75 * h[..., 1:-1]
        right = 0.75 * h[..., 1:-1] + 0.25 * h[..., 2:]
        return torch.stack([left, right], -1).flatten(-2)

    def both(line: Any, h: Tensor) -> Tensor:
        return line(line(h).mT).mT

    told = waves(weights, f"{wrap}timestep_embed.weight", sigma.log()[:, None] / 4, features)
    if numbers:
        given = torch.zeros(batch, numbers, dtype=x.dtype) if augment is None else augment
        told = told + given @ weights(f"{wrap}mapping_cond.weight", features, numbers).T
    mapped = F.gelu(dense("mapping.2", F.gelu(dense("mapping.0", told, features)), features))

    channels, depths, levels = model["channels"], model["depths"], len(model["depths"])
    outer = [channels[max(0, level - 1)] for level in range(levels)]
    colours = x.shape[1]
    cut = x.unflatten(2, (-1, patch)).unflatten(4, (-1, patch)).permute(0, 1, 3, 5, 2, 4).flatten(1, 3)
    h = conv("proj_in", cut, outer[skipped], 1)
    kept = []
    for level in range(skipped, levels):
        name, place = f"u_net.d_blocks.{level}", 1
        if level > skipped:
            h = both(line_down, h)
        for _ in range(depths[level]):
            h = block(f"{name}.{place}", h, channels[level], channels[level])
            place += 1
            if model["self_attn_depths"][level]:
                h = attend(f"{name}.{place}", h)
                place += 1
        kept.append(h)
    for level in reversed(range(skipped, levels)):
        name, place, skip = f"u_net.u_blocks.{levels - 1 - level}", 0, kept.pop()
        h = h if level == levels - 1 else torch.cat([h, skip], 1)
        for index in range(depths[level]):
            outputs = outer[level] if index == depths[level] - 1 else channels[level]
            h = block(f"{name}.{place}", h, channels[level], outputs)
            place += 1
            if model["self_attn_depths"][level]:
                h = attend(f"{name}.{place}", h)
                place += 1
        if level > skipped:
            h = both(line_up, h)
    extra = int(model.get("has_variance", False))
    h = conv("proj_out", h, colours * patch**2 + extra, 1)[:, : colours * patch**2]
    h = h.reshape(batch, colours, patch, patch, *h.shape[2:]).permute(0, 1, 4, 2, 5, 3)
    return h.flatten(4, 5).flatten(2, 3)
