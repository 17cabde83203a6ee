"""NCSN++ of score_sde_pytorch, written from its description alone: the oracle of the imported networks.

The network is evaluated once, in the order in which their code numbers the modules, and requests tensors by name and
shape, which also defines the tensors of a file. It is independent of the networks of sde_gen.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = Callable[..., Tensor]
"""``weights(name, *shape)``: the tensor of that name, which has that shape."""


def drawn(seed: int = 0) -> tuple[dict[str, Tensor], Weights]:
    """A dictionary that fills itself with random tensors as they are asked for."""
    generator, made = torch.Generator().manual_seed(seed), {}

    def weights(name: str, *shape: int) -> Tensor:
        assert name not in made, f"{name} is used twice"
        size = 1.0 if len(shape) < 2 else 1.5 / math.prod(shape[1:]) ** 0.5
        made[name] = size * torch.randn(shape, generator=generator)
        return made[name].double()

    return made, weights


def given(state: Mapping[str, Tensor]) -> Weights:
    """The tensors of a file, in float64."""

    def weights(name: str, *shape: int) -> Tensor:
        assert state[name].shape == shape, f"{name}: {tuple(state[name].shape)}, expected {shape}"
        return state[name].double()

    return weights


def forward(config: Mapping[str, Any], weights: Weights, x: Tensor, labels: Tensor) -> Tensor:
    """Return the output at x and the original labels (with Fourier features the noise level), before the scaling."""
    model, data = config["model"], config["data"]
    ddpm = model.get("name") == "ddpm"  # their first network: the plainest, and with other normalizations
    if ddpm:
        plain = {"embedding_type": "positional", "resblock_type": "ddpm", "fir": False, "skip_rescale": False}
        model = {**model, **plain, "progressive": "none", "progressive_input": "none"}
    width, taps, fir = model["nf"], model["fir_kernel"], model["fir"]
    levels, rescale = len(model["ch_mult"]), 0.5**0.5 if model["skip_rescale"] else 1.0
    place = [-1]
    act = {"swish": F.silu, "relu": F.relu, "elu": F.elu, "lrelu": lambda h: F.leaky_relu(h, 0.2)}[
        model.get("nonlinearity", "swish").lower()
    ]

    def following() -> str:
        place[0] += 1
        return f"all_modules.{place[0]}"

    def conv(name: str, h: Tensor, outputs: int, size: int = 3, **how: Any) -> Tensor:
        weight = weights(f"{name}.weight", outputs, h.shape[1], size, size)
        return F.conv2d(h, weight, weights(f"{name}.bias", outputs), **{"padding": size // 2, **how})

    def norm(name: str, h: Tensor) -> Tensor:
        channels = h.shape[1]
        scale, shift = weights(f"{name}.weight", channels), weights(f"{name}.bias", channels)
        return F.group_norm(h, 32 if ddpm else min(channels // 4, 32), scale, shift, 1e-6)

    def nin(name: str, h: Tensor, outputs: int) -> Tensor:
        matrix, bias = weights(f"{name}.W", h.shape[1], outputs), weights(f"{name}.b", outputs)
        return torch.einsum("bchw,cd->bdhw", h, matrix) + bias[:, None, None]

    def dense(name: str, h: Tensor, outputs: int) -> Tensor:
        weight = weights(f"{name}.weight", outputs, h.shape[1])
        return h @ weight.T + weights(f"{name}.bias", outputs)

    def filtered(h: Tensor, *, up: int = 1, down: int = 1, before: int, after: int) -> Tensor:
        """Insert zeros, pad, filter, keep every second: sums over shifted copies, no convolution."""
        line = torch.tensor(taps, dtype=torch.float64) / sum(taps) * up
        for dim in (2, 3):
            h = h.movedim(dim, -1)
            if up == 2:
                h = torch.stack([h, torch.zeros_like(h)], dim=-1).flatten(-2)
            h = F.pad(h, (before, after))
            count = h.shape[-1] - len(taps) + 1
            h = sum(tap * h[..., at : at + count] for at, tap in enumerate(line.flip(0)))[..., ::down]
            h = h.movedim(-1, dim)
        return h

    def up(h: Tensor) -> Tensor:
        if not fir:
            return h.repeat_interleave(2, 2).repeat_interleave(2, 3)
        p = len(taps) - 2
        return filtered(h, up=2, before=(p + 1) // 2 + 1, after=p // 2)

    def down(h: Tensor) -> Tensor:
        if not fir:
            return h.unflatten(2, (-1, 2)).unflatten(4, (-1, 2)).mean((3, 5))
        p = len(taps) - 2
        return filtered(h, down=2, before=(p + 1) // 2, after=p // 2)

    def down_conv(h: Tensor, outputs: int) -> Tensor:
        name = following()
        if not fir:
            return conv(f"{name}.Conv_0", F.pad(h, (0, 1, 0, 1)), outputs, stride=2, padding=0)
        p = len(taps)
        smooth = filtered(h, before=(p + 1) // 2, after=p // 2)
        return conv(f"{name}.Conv2d_0", smooth, outputs, stride=2, padding=0)

    def up_conv(h: Tensor, outputs: int) -> Tensor:
        """With a filter: first the convolution of the pixels with zeros between, then the filter."""
        name = following()
        if not fir:
            return conv(f"{name}.Conv_0", up(h), outputs)
        weight = weights(f"{name}.Conv2d_0.weight", outputs, h.shape[1], 3, 3)
        sparse = h.new_zeros(*h.shape[:2], 2 * h.shape[2] + 3, 2 * h.shape[3] + 3)
        sparse[:, :, 2:-2:2, 2:-2:2] = h
        full, p = F.conv2d(sparse, weight), len(taps) - 4
        grown = (
            filtered(full, before=(p + 1) // 2 + 1, after=p // 2 + 1) * 4
        )  # the gain that inserted zeros need
        return grown + weights(f"{name}.Conv2d_0.bias", outputs)[:, None, None]

    def block(
        h: Tensor, outputs: int | None = None, change: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        name, inputs, x = following(), h.shape[1], h
        outputs = outputs or inputs
        h = act(norm(f"{name}.GroupNorm_0", h))
        if change is not None:
            h, x = change(h), change(x)
        h = conv(f"{name}.Conv_0", h, outputs)
        weight = (
            weights(f"{name}.Dense_0.weight", outputs, 4 * width),
            weights(f"{name}.Dense_0.bias", outputs),
        )
        if embedding is not None:
            h = h + (act(embedding) @ weight[0].T + weight[1])[:, :, None, None]
        h = conv(f"{name}.Conv_1", act(norm(f"{name}.GroupNorm_1", h)), outputs)
        if model["resblock_type"] == "ddpm":
            x = nin(f"{name}.NIN_0", x, outputs) if inputs != outputs else x
        elif inputs != outputs or change is not None:
            x = conv(f"{name}.Conv_2", x, outputs, 1)
        return (x + h) * rescale

    def attend(h: Tensor) -> Tensor:
        name, channels = following(), h.shape[1]
        normal = norm(f"{name}.GroupNorm_0", h)
        query, key, value = (nin(f"{name}.NIN_{n}", normal, channels).flatten(2) for n in range(3))
        seen = torch.einsum("bci,bcj->bij", query, key) / channels**0.5
        mixed = torch.einsum("bij,bcj->bci", seen.softmax(2), value).reshape(h.shape)
        return (h + nin(f"{name}.NIN_3", mixed, channels)) * rescale

    def here(h: Tensor) -> Tensor:
        return attend(h) if h.shape[-1] in model["attn_resolutions"] else h

    def head(h: Tensor, outputs: int) -> Tensor:
        normal = act(norm(following(), h))
        return conv(following(), normal, outputs)

    def change(h: Tensor, how: Callable[[Tensor], Tensor], learned: Callable[..., Tensor]) -> Tensor:
        if model["resblock_type"] == "biggan":
            return block(h, change=how)
        if model["resamp_with_conv"]:
            return learned(h, h.shape[1])
        following()
        return how(h)

    if model["embedding_type"] == "fourier":
        angle = 2 * math.pi * torch.log(labels)[:, None] * weights(f"{following()}.W", width)
        features = torch.cat([angle.sin(), angle.cos()], 1)
    else:
        half = width // 2
        angle = labels[:, None] * 10000 ** (-torch.arange(half, dtype=torch.float64) / (half - 1))
        features = F.pad(torch.cat([angle.sin(), angle.cos()], 1), (0, width % 2))
    embedding = None
    if model["conditional"]:
        hidden = act(dense(following(), features, 4 * width))
        embedding = dense(following(), hidden, 4 * width)

    if not data["centered"]:
        x = 2 * x - 1
    pyramid, h = x, conv(following(), x, width)
    skips = [h]
    for level, multiplier in enumerate(model["ch_mult"]):
        for _ in range(model["num_res_blocks"]):
            h = here(block(h, width * multiplier))
            skips.append(h)
        if level < levels - 1:
            h = change(h, down, down_conv)
            if model["progressive_input"] == "input_skip":
                pyramid = down(pyramid)
                projected = conv(f"{following()}.Conv_0", pyramid, h.shape[1], 1)
                join = model["progressive_combine"] == "cat"
                h = torch.cat([projected, h], 1) if join else projected + h
            elif model["progressive_input"] == "residual":
                h = pyramid = (down_conv(pyramid, h.shape[1]) + h) * rescale
            skips.append(h)
    h = block(attend(block(h)))

    picture = torch.zeros(())
    for level, multiplier in reversed(list(enumerate(model["ch_mult"]))):
        for _ in range(model["num_res_blocks"] + 1):
            h = block(torch.cat([h, skips.pop()], 1), width * multiplier)
        h = here(h)
        coarsest = level == levels - 1
        if model["progressive"] == "output_skip":
            image = head(h, data["num_channels"])
            picture = image if coarsest else up(picture) + image
        elif model["progressive"] == "residual" and coarsest:
            picture = head(h, h.shape[1])
        elif model["progressive"] == "residual":
            h = picture = (up_conv(picture, h.shape[1]) + h) * rescale
        if level > 0:
            h = change(h, up, up_conv)
    if model["progressive"] == "output_skip":
        return picture
    return head(h, data["num_channels"])
