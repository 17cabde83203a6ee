"""Networks of k-diffusion, written from their description alone: the oracle of the imported ones.

Each network is evaluated once and requests tensors by name and shape, which also defines the tensors of a file. They
are independent of the networks of sde_gen.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.reference.score_sde import Weights


def denoised(
    reader: Any, config: Mapping[str, Any], weights: Weights, x: Tensor, sigma: Tensor, **cond: Tensor
) -> Tensor:
    """Table 1 of Karras et al., 2022, around the network."""
    data = config["model"].get("sigma_data", 1.0)
    spread = (sigma**2 + data**2).sqrt().view(-1, 1, 1, 1)
    out = reader(config, weights, x / spread, sigma, **cond)
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
    """Return the output of the U-Net before preconditioning."""
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
        """Normalize the channels in groups of 32, then scale and shift."""
        channels = h.shape[1]
        flat = h.reshape(batch, max(1, channels // 32), -1)
        normal = (flat - flat.mean(2, keepdim=True)) / (flat.var(2, correction=0, keepdim=True) + 1e-5).sqrt()
        cond = dense(f"{name}.mapper", mapped, 2 * channels)[:, :, None, None]
        return normal.reshape(h.shape) * (1 + cond[:, :channels]) + cond[:, channels:]

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
        """A quarter of the farther and three of the nearer neighbor, in the mirrored line."""
        h = torch.cat([h[..., 1:2], h, h[..., -2:-1]], -1)
        left = 0.25 * h[..., :-2] + 0.75 * h[..., 1:-1]
        right = 0.75 * h[..., 1:-1] + 0.25 * h[..., 2:]
        return torch.stack([left, right], -1).flatten(-2)

    def both(line: Any, h: Tensor) -> Tensor:
        return line(line(h).mT).mT

    cond = waves(weights, f"{wrap}timestep_embed.weight", sigma.log()[:, None] / 4, features)
    if numbers:
        given = torch.zeros(batch, numbers, dtype=x.dtype) if augment is None else augment
        cond = cond + given @ weights(f"{wrap}mapping_cond.weight", features, numbers).T
    mapped = F.gelu(dense("mapping.2", F.gelu(dense("mapping.0", cond, features)), features))

    channels, depths, levels = model["channels"], model["depths"], len(model["depths"])
    outer = [channels[max(0, level - 1)] for level in range(levels)]
    colors = x.shape[1]
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
    h = conv("proj_out", h, colors * patch**2 + extra, 1)[:, : colors * patch**2]
    h = h.reshape(batch, colors, patch, patch, *h.shape[2:]).permute(0, 1, 4, 2, 5, 3)
    return h.flatten(4, 5).flatten(2, 3)


def places(rows: int, columns: int, aspect: float = 1.0) -> Tensor:
    """Middles of tokens in an image whose longer side is [-1, 1], as complex numbers x + i y."""
    token = max(columns, rows * aspect) / 2
    x = (torch.arange(columns, dtype=torch.float64) + 0.5 - columns / 2) / token
    y = (torch.arange(rows, dtype=torch.float64) + 0.5 - rows / 2) * aspect / token
    return torch.complex(*torch.broadcast_tensors(x, y[:, None]))


def seen_by(kind: Mapping[str, Any], index: int, rows: int, columns: int) -> Tensor:
    """Which of all tokens every token attends to, one by one."""
    seen = torch.zeros(rows, columns, rows, columns, dtype=torch.bool)
    for r in range(rows):
        for c in range(columns):
            if kind["type"] == "global":
                seen[r, c] = True
            elif kind["type"] == "neighborhood":
                size = kind.get("kernel_size", 7)
                top, left = (
                    min(max(place - size // 2, 0), side - size) for place, side in ((r, rows), (c, columns))
                )
                seen[r, c, top : top + size, left : left + size] = True
            else:
                size = kind["window_size"]
                shift = size // 2 if index % 2 else 0
                # a window with the border of the image inside it ends there
                top, left = ((place + shift) // size * size - shift for place in (r, c))
                seen[r, c, max(top, 0) : top + size, max(left, 0) : left + size] = True
    return seen.flatten(2).flatten(0, 1)


class Transformer:
    """Layers that both transformers have, on tokens (B, rows, columns, width)."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights

    def dense(self, name: str, h: Tensor, outputs: int) -> Tensor:
        return torch.einsum("...i,oi->...o", h, self.weights(f"{name}.weight", outputs, h.shape[-1]))

    def normal(self, h: Tensor) -> Tensor:
        return h / ((h**2).mean(-1, keepdim=True) + 1e-6).sqrt()

    def scaled(self, name: str, h: Tensor) -> Tensor:
        return self.normal(h) * self.weights(f"{name}.scale", h.shape[-1])

    def adaptive(self, name: str, h: Tensor, cond: Tensor) -> Tensor:
        return self.normal(h) * (1 + self.dense(f"{name}.linear", cond, h.shape[-1])[:, None, None])

    def gated(self, name: str, h: Tensor, units: int) -> Tensor:
        both = self.dense(f"{name}.up_proj", h, 2 * units)
        return self.dense(f"{name}.down_proj", both[..., :units] * F.gelu(both[..., units:]), h.shape[-1])

    def cond(
        self, sigma: Tensor, width: int, depth: int, units: int, augment: Tensor, *more: Tensor
    ) -> Tensor:
        """Noise level, augmentation and what is given further, through the mapping network."""
        noise = waves(self.weights, "time_emb.weight", sigma.log()[:, None] / 4, width)
        h = self.dense("time_in_proj", noise, width)
        h = h + self.dense("aug_in_proj", waves(self.weights, "aug_emb.weight", augment, width), width)
        h = self.scaled("mapping.in_norm", sum(more, start=h))
        for index in range(depth):
            name = f"mapping.blocks.{index}"
            h = h + self.gated(name, self.scaled(f"{name}.norm", h), units)
        return self.scaled("mapping.out_norm", h)

    def classes(self, count: int, width: int, label: Tensor) -> Tensor:
        """Rows of a table that has one more, for no class."""
        return self.weights("class_emb.weight", count + 1, width)[label]

    def heads(self, name: str, h: Tensor, heads: int) -> list[Tensor]:
        """Queries, keys and values with shape (B, heads, tokens, head)."""
        batch, rows, columns, width = h.shape
        qkv = self.dense(f"{name}.qkv_proj", h, 3 * width)
        return list(qkv.reshape(batch, rows * columns, 3, heads, -1).permute(2, 0, 3, 1, 4))

    def attended(
        self, name: str, like: Tensor, query: Tensor, key: Tensor, value: Tensor, seen: Tensor
    ) -> Tensor:
        """Of all products, those that count."""
        weight = torch.einsum("bhic,bhjc->bhij", query, key).exp() * seen
        out = torch.einsum("bhij,bhjc->bihc", weight / weight.sum(3, keepdim=True), value)
        return self.dense(f"{name}.out_proj", out.reshape(like.shape), like.shape[-1])


def turned(first: Tensor, second: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of numbers as complex ones, rotated."""
    out = torch.complex(first, second) * torch.polar(torch.ones_like(angle), angle)
    return out.real, out.imag


def image_transformer_v2(
    config: Mapping[str, Any],
    weights: Weights,
    x: Tensor,
    sigma: Tensor,
    *,
    label: Tensor | None = None,
    augment: Tensor | None = None,
    condition: Tensor | None = None,
) -> Tensor:
    """Return the output of the hourglass transformer before preconditioning."""
    model, reader = config["model"], Transformer(weights)
    widths, depths, (ph, pw) = model["widths"], model["depths"], model["patch_size"]
    near, far = {"type": "neighborhood", "kernel_size": 7}, {"type": "global"}
    reaches = model.get("self_attns") or [near] * (len(widths) - 1) + [far]
    hidden = model.get("d_ffs") or [3 * width for width in widths]
    batch, features = len(x), model.get("mapping_width", 256)
    count, numbers = config.get("dataset", {}).get("num_classes", 0), model.get("mapping_cond_dim", 0)

    def merge(h: Tensor, outputs: int, name: str, high: int = 2, wide: int = 2) -> Tensor:
        parts = [h[:, r::high, c::wide] for r in range(high) for c in range(wide)]
        return reader.dense(f"{name}.proj", torch.cat(parts, -1), outputs)

    def split(h: Tensor, outputs: int, name: str, high: int = 2, wide: int = 2) -> Tensor:
        parts = reader.dense(f"{name}.proj", h, outputs * high * wide).chunk(high * wide, -1)
        out = h.new_zeros(batch, h.shape[1] * high, h.shape[2] * wide, outputs)
        for place, part in enumerate(parts):
            out[:, place // wide :: high, place % wide :: wide] = part
        return out

    def layer(h: Tensor, level: int, name: str, index: int) -> Tensor:
        kind, (rows, columns, width) = reaches[level], h.shape[1:]
        if kind["type"] != "none":
            at, size = f"{name}.self_attn", kind.get("d_head", 64)
            heads = width // size
            query, key, value = reader.heads(at, reader.adaptive(f"{at}.norm", h, cond), heads)
            scale = weights(f"{at}.scale", heads)[:, None, None]
            place = places(rows, columns).flatten()[:, None]
            omega = weights(f"{at}.pos_emb.freqs", heads, size // 8)[:, None]
            angle = torch.cat([omega * place.imag, omega * place.real], -1)
            products = []
            for part in (query, key):
                part = part * (scale / ((part**2).sum(-1, keepdim=True) + 1e-6)) ** 0.5
                first, second, rest = part.split([size // 4, size // 4, size // 2], -1)
                products.append(torch.cat([*turned(first, second, angle), rest], -1))
            seen = seen_by(kind, index, rows, columns)
            h = h + reader.attended(at, h, *products, value, seen)
        normal = reader.adaptive(f"{name}.ff.norm", h, cond)
        return h + reader.gated(f"{name}.ff", normal, hidden[level])

    extra = []
    if count:
        extra.append(reader.classes(count, features, torch.full((batch,), count) if label is None else label))
    if numbers:
        given = torch.zeros(batch, numbers).double() if condition is None else condition
        extra.append(reader.dense("mapping_cond_in_proj", given, features))
    described = torch.zeros(batch, 9).double() if augment is None else augment
    units = model.get("mapping_d_ff") or 3 * features
    cond = reader.cond(sigma, features, model.get("mapping_depth", 2), units, described, *extra)
    h, kept = merge(x.permute(0, 2, 3, 1), widths[0], "patch_in", ph, pw), []
    for level, depth in enumerate(depths[:-1]):
        for index in range(depth):
            h = layer(h, level, f"down_levels.{level}.{index}", index)
        kept.append(h)
        h = merge(h, widths[level + 1], f"merges.{level}")
    for index in range(depths[-1]):
        h = layer(h, len(depths) - 1, f"mid_level.{index}", index)
    for level in reversed(range(len(depths) - 1)):
        h, skip = split(h, widths[level], f"splits.{level}"), kept.pop()
        share = weights(f"splits.{level}.fac", 1)
        h = (1 - share) * skip + share * h
        for index in range(depths[level]):
            h = layer(h, level, f"up_levels.{level}.{index}", index + depths[level])
    return split(reader.scaled("out_norm", h), x.shape[1], "patch_out", ph, pw).permute(0, 3, 1, 2)


def image_transformer_v1(
    config: Mapping[str, Any],
    weights: Weights,
    x: Tensor,
    sigma: Tensor,
    *,
    label: Tensor | None = None,
    augment: Tensor | None = None,
) -> Tensor:
    """Return the output of image_transformer_v1 before preconditioning."""
    model, reader = config["model"], Transformer(weights)
    width, units, (ph, pw), batch = model["width"], model["d_ff"], model["patch_size"], len(x)
    count, heads = config.get("dataset", {}).get("num_classes", 0), model["width"] // 64
    extra = []
    if count:
        extra.append(reader.classes(count, width, torch.full((batch,), count) if label is None else label))
    described = torch.zeros(batch, 9).double() if augment is None else augment
    cond = reader.cond(sigma, width, 2, units, described, *extra)
    tokens = x.unflatten(2, (-1, ph)).unflatten(4, (-1, pw)).permute(0, 2, 4, 1, 3, 5).flatten(3)
    h = reader.dense("in_proj", tokens, width)
    rows, columns = h.shape[1:3]
    place = places(rows, columns, ph / pw).flatten()[:, None]
    for index in range(model["depth"]):
        at = f"blocks.{index}.self_attn"
        query, key, value = reader.heads(at, reader.adaptive(f"{at}.norm", h, cond), heads)
        scale = (weights(f"{at}.qk_norm.scale", heads).clamp(max=math.log(100)) / 2).exp()[:, None, None]
        omega_h, omega_w = (weights(f"{at}.pos_emb.freqs_{axis}", heads, 16).exp()[:, None] for axis in "hw")
        angle = torch.cat([omega_h * place.imag, omega_w * place.real], -1)
        products = []
        for part in (query, key):
            part = reader.normal(part) * scale / 64**0.25  # the rest of their scale is that of all attention
            pairs = turned(part[..., ::2], part[..., 1::2], angle)
            products.append(torch.stack(pairs, -1).flatten(-2) / 64**0.25)
        everything = torch.ones(rows * columns, rows * columns, dtype=torch.bool)
        h = h + reader.attended(at, h, *products, value, everything)
        normal = reader.adaptive(f"blocks.{index}.ff.norm", h, cond)
        h = h + reader.gated(f"blocks.{index}.ff", normal, units)
    out = reader.dense("out_proj", reader.scaled("out_norm", h), x.shape[1] * ph * pw)
    out = out.unflatten(3, (-1, ph, pw)).permute(0, 3, 1, 4, 2, 5)
    return out.flatten(4, 5).flatten(2, 3)
