"""Networks of guided-diffusion and improved-diffusion, written from their description alone.

A network is evaluated once and requests tensors by name and shape, which also defines the tensors of a file. It is
independent of the networks of sde_gen.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.reference.score_sde import Weights


class Reader:
    """Layers by their original names, and the encoder path that the networks of images and of classes share.

    EDM's rewriting has an embedding of any width (``channel_mult_emb``) and augmentation labels, whose linear image
    is added to the features of t.
    """

    def __init__(self, config: Mapping[str, Any], weights: Weights) -> None:
        self.config, self.weights = config, weights
        self.width, self.multipliers = config["model_channels"], config["channel_mult"]
        self.count = config.get("num_heads", 1)
        self.in_blocks, self.learned = config["resblock_updown"], config.get("conv_resample", True)

    def conv(self, name: str, h: Tensor, outputs: int, size: int = 3, **how: Any) -> Tensor:
        weight = self.weights(f"{name}.weight", outputs, h.shape[1], size, size)
        return F.conv2d(h, weight, self.weights(f"{name}.bias", outputs), **{"padding": size // 2, **how})

    def dense(self, name: str, h: Tensor, outputs: int) -> Tensor:
        weight = self.weights(f"{name}.weight", outputs, h.shape[-1])
        return h @ weight.T + self.weights(f"{name}.bias", outputs)

    def along(self, name: str, h: Tensor, outputs: int) -> Tensor:
        """A convolution of one place, of features (B, C, places)."""
        weight = self.weights(f"{name}.weight", outputs, h.shape[1], 1)
        return weight[..., 0] @ h + self.weights(f"{name}.bias", outputs)[:, None]

    def norm(self, name: str, h: Tensor) -> Tensor:
        scale, shift = (self.weights(f"{name}.{kind}", h.shape[1]) for kind in ("weight", "bias"))
        return F.group_norm(h, 32, scale, shift, 1e-5)

    def embed(self, t: Tensor, augment: Tensor | None = None) -> None:
        half, seen = self.width // 2, self.config.get("channel_mult_emb", 4) * self.width
        angle = t.double()[:, None] * 10000.0 ** -(torch.arange(half, dtype=torch.float64) / half)
        emb = torch.cat([angle.cos(), angle.sin()], dim=1)
        if augment is not None:
            emb = emb + augment.double() @ self.weights("map_augment.weight", self.width, augment.shape[1]).T
        self.emb = self.dense("time_embed.2", F.silu(self.dense("time_embed.0", emb, seen)), seen)

    def block(self, name: str, x: Tensor, outputs: int, change: Any = None) -> Tensor:
        h = F.silu(self.norm(f"{name}.in_layers.0", x))
        if change is not None:
            x, h = change(x), change(h)
        h = self.conv(f"{name}.in_layers.2", h, outputs)
        modulated = self.config["use_scale_shift_norm"]
        cond = self.dense(f"{name}.emb_layers.1", F.silu(self.emb), (1 + modulated) * outputs)[
            :, :, None, None
        ]
        if modulated:
            h = self.norm(f"{name}.out_layers.0", h) * (1 + cond[:, :outputs]) + cond[:, outputs:]
        else:
            h = self.norm(f"{name}.out_layers.0", h + cond)
        h = self.conv(f"{name}.out_layers.3", F.silu(h), outputs)
        if x.shape[1] != outputs:
            x = self.conv(f"{name}.skip_connection", x, outputs, 1)
        return x + h

    def attention(self, name: str, x: Tensor) -> Tensor:
        count = x.shape[1]
        qkv = self.along(f"{name}.qkv", self.norm(f"{name}.norm", x).flatten(2), 3 * count)
        mixed = self.heads(qkv, together=self.config.get("use_new_attention_order", False))
        return x + self.along(f"{name}.proj_out", mixed, count).reshape(x.shape)

    def heads(self, qkv: Tensor, *, together: bool) -> Tensor:
        """Queries, keys and values of all heads, or of one head after the other, to what the heads see."""
        count = qkv.shape[1] // 3
        size = self.config.get("num_head_channels", -1)
        each = count // self.count if size == -1 else size
        out = []
        for head in range(count // each):
            if together:
                parts = [qkv[:, part * count :][:, each * head : each * (head + 1)] for part in range(3)]
            else:
                parts = list(qkv[:, 3 * each * head : 3 * each * (head + 1)].split(each, dim=1))
            query, key, value = parts
            shares = torch.softmax(query.mT @ key / math.sqrt(each), dim=-1)
            out.append(value @ shares.mT)
        return torch.cat(out, dim=1)

    def down(self, x: Tensor) -> list[Tensor]:
        """Features of the stem, of every encoder block, and of the middle."""
        h = self.conv("input_blocks.0.0", x, int(self.multipliers[0] * self.width))
        seen, number, factor = [h], 1, 1
        for level, multiplier in enumerate(self.multipliers):
            for _ in range(self.config["num_res_blocks"]):
                h = self.block(f"input_blocks.{number}.0", h, int(multiplier * self.width))
                if factor in self.config["attention_resolutions"]:
                    h = self.attention(f"input_blocks.{number}.1", h)
                seen.append(h)
                number += 1
            if level < len(self.multipliers) - 1:
                name = f"input_blocks.{number}.0"
                if self.in_blocks:
                    h = self.block(name, h, h.shape[1], halve)
                else:
                    h = self.conv(f"{name}.op", h, h.shape[1], stride=2) if self.learned else halve(h)
                seen.append(h)
                number, factor = number + 1, 2 * factor
        h = self.block("middle_block.0", h, h.shape[1])
        h = self.block("middle_block.2", self.attention("middle_block.1", h), h.shape[1])
        return [*seen, h]


def halve(h: Tensor) -> Tensor:
    return h.unflatten(2, (-1, 2)).unflatten(4, (-1, 2)).mean((3, 5))


def double(h: Tensor) -> Tensor:
    return h.repeat_interleave(2, 2).repeat_interleave(2, 3)


def forward(
    config: Mapping[str, Any],
    weights: Weights,
    x: Tensor,
    t: Tensor,
    y: Tensor | None,
    augment: Tensor | None = None,
) -> Tensor:
    """The output of their ``UNetModel`` at x, their labels t and classes y."""
    reader, blocks = Reader(config, weights), config["num_res_blocks"]
    reader.embed(t, augment)
    if config.get("num_classes"):
        reader.emb = reader.emb + weights("label_emb.weight", config["num_classes"], reader.emb.shape[1])[y]
    *skips, h = reader.down(x)
    if config.get("num_heads_upsample", -1) != -1:
        reader.count = config["num_heads_upsample"]
    number, factor = 0, 2 ** (len(reader.multipliers) - 1)
    for level in reversed(range(len(reader.multipliers))):
        for index in range(blocks + 1):
            name, part = f"output_blocks.{number}", 1
            outputs = int(reader.multipliers[level] * reader.width)
            h = reader.block(f"{name}.0", torch.cat([h, skips.pop()], dim=1), outputs)
            if factor in config["attention_resolutions"]:
                h, part = reader.attention(f"{name}.1", h), 2
            if level and index == blocks:
                if reader.in_blocks:
                    h = reader.block(f"{name}.{part}", h, h.shape[1], double)
                else:
                    h = double(h)
                    h = reader.conv(f"{name}.{part}.conv", h, h.shape[1]) if reader.learned else h
                factor //= 2
            number += 1
    assert not skips
    return reader.conv("out.2", F.silu(reader.norm("out.0", h)), config["out_channels"])


def logits(config: Mapping[str, Any], weights: Weights, x: Tensor, t: Tensor) -> Tensor:
    """The output of their ``EncoderUNetModel`` at x and their labels t."""
    reader, classes, pool = Reader(config, weights), config["out_channels"], config.get("pool", "adaptive")
    reader.embed(t)
    seen = reader.down(x)
    if pool.startswith("spatial"):
        h = reader.dense("out.0", torch.cat([h.mean((2, 3)) for h in seen], dim=1), 2048)
        h = F.relu(h) if pool == "spatial" else F.silu(reader.norm("out.1", h))
        return reader.dense("out.2" if pool == "spatial" else "out.3", h, classes)
    h = F.silu(reader.norm("out.0", seen[-1]))
    if pool == "adaptive":
        return reader.conv("out.3", h.mean((2, 3), keepdim=True), classes, 1)[:, :, 0, 0]
    h = h.flatten(2)
    h = torch.cat([h.mean(2, keepdim=True), h], dim=2)  # the average is one more place
    h = h + weights("out.2.positional_embedding", *h.shape[1:])
    h = reader.heads(reader.along("out.2.qkv_proj", h, 3 * h.shape[1]), together=True)
    return reader.along("out.2.c_proj", h, classes)[:, :, 0]
