"""The network of the authors of DiT, written from the description in arXiv:2212.09748 and the names in their files."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def random_tensors(
    *, width: int, depth: int, patch: int, channels: int, grid: int, classes: int, outputs: int, seed: int = 0
) -> dict[str, Tensor]:
    """Weights of a network as their files name them, all random, the table of places too."""
    shapes: dict[str, tuple[int, ...]] = {
        "x_embedder.proj": (width, channels, patch, patch),
        "t_embedder.mlp.0": (width, 256),
        "t_embedder.mlp.2": (width, width),
        "final_layer.adaLN_modulation.1": (2 * width, width),
        "final_layer.linear": (patch * patch * outputs * channels, width),
    }
    for index in range(depth):
        shapes |= {
            f"blocks.{index}.attn.qkv": (3 * width, width),
            f"blocks.{index}.attn.proj": (width, width),
            f"blocks.{index}.mlp.fc1": (4 * width, width),
            f"blocks.{index}.mlp.fc2": (width, 4 * width),
            f"blocks.{index}.adaLN_modulation.1": (6 * width, width),
        }
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return 0.3 * torch.randn(shape, generator=generator)

    tensors = {
        "pos_embed": draw(1, grid * grid, width),
        "y_embedder.embedding_table.weight": draw(classes + 1, width),
    }
    for name, shape in shapes.items():
        tensors |= {f"{name}.weight": draw(*shape), f"{name}.bias": draw(shape[0])}
    return tensors


def evaluate(tensors: dict[str, Tensor], heads: int, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
    """Apply the network."""

    def dense(name: str, h: Tensor) -> Tensor:
        return F.linear(h, tensors[f"{name}.weight"], tensors[f"{name}.bias"])

    def norm(h: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        mean = h.mean(-1, keepdim=True)
        variance = ((h - mean) ** 2).mean(-1, keepdim=True)
        return (h - mean) / (variance + 1e-6).sqrt() * (1 + scale[:, None]) + shift[:, None]

    kernel = tensors["x_embedder.proj.weight"]
    patch, width = kernel.shape[2], kernel.shape[0]
    h = F.conv2d(x, kernel, tensors["x_embedder.proj.bias"], stride=patch)
    rows, columns = h.shape[2:]
    h = h.flatten(2).transpose(1, 2) + tensors["pos_embed"]
    angle = t[:, None] * torch.exp(-math.log(10000) * torch.arange(128, dtype=x.dtype) / 128)
    time = dense(
        "t_embedder.mlp.2", F.silu(dense("t_embedder.mlp.0", torch.cat([angle.cos(), angle.sin()], 1)))
    )
    c = F.silu(time + tensors["y_embedder.embedding_table.weight"][label])
    depth = len({name.split(".")[1] for name in tensors if name.startswith("blocks.")})
    for index in range(depth):
        at = f"blocks.{index}"
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = dense(f"{at}.adaLN_modulation.1", c).chunk(6, 1)
        qkv = dense(f"{at}.attn.qkv", norm(h, shift, scale)).reshape(len(x), -1, 3, heads, width // heads)
        q, k, v = (qkv[:, :, n].transpose(1, 2) for n in range(3))
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        h = h + gate[:, None] * dense(f"{at}.attn.proj", attended)
        units = F.gelu(dense(f"{at}.mlp.fc1", norm(h, shift_mlp, scale_mlp)), approximate="tanh")
        h = h + gate_mlp[:, None] * dense(f"{at}.mlp.fc2", units)
    shift, scale = dense("final_layer.adaLN_modulation.1", c).chunk(2, 1)
    out = dense("final_layer.linear", norm(h, shift, scale)).reshape(len(x), rows, columns, patch, patch, -1)
    return torch.einsum("nhwpqc->nchpwq", out).reshape(len(x), -1, rows * patch, columns * patch)
