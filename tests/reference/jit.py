"""The network of the authors of JiT, written from the description in arXiv:2511.13720 and the names in their files."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def random_tensors(
    *, width: int, depth: int, heads: int, patch: int, grid: int, classes: int, bottleneck: int, tokens: int
) -> dict[str, Tensor]:
    """Weights of a network as their files name them, all random."""
    units, head = int(4 * width * 2 / 3), width // heads
    layers: dict[str, tuple[int, ...]] = {
        "x_embedder.proj2": (width, bottleneck, 1, 1),
        "t_embedder.mlp.0": (width, 256),
        "t_embedder.mlp.2": (width, width),
        "final_layer.adaLN_modulation.1": (2 * width, width),
        "final_layer.linear": (patch * patch * 3, width),
    }
    norms = {"final_layer.norm_final": width}
    for index in range(depth):
        at = f"blocks.{index}"
        layers |= {
            f"{at}.attn.qkv": (3 * width, width),
            f"{at}.attn.proj": (width, width),
            f"{at}.mlp.w12": (2 * units, width),
            f"{at}.mlp.w3": (width, units),
            f"{at}.adaLN_modulation.1": (6 * width, width),
        }
        norms |= {
            f"{at}.norm1": width,
            f"{at}.norm2": width,
            f"{at}.attn.q_norm": head,
            f"{at}.attn.k_norm": head,
        }
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return 0.3 * torch.randn(shape, generator=generator)

    tensors = {
        "pos_embed": draw(1, grid * grid, width),
        "in_context_posemb": draw(1, tokens, width),
        "y_embedder.embedding_table.weight": draw(classes + 1, width),
        "x_embedder.proj1.weight": draw(bottleneck, 3, patch, patch),
    }
    for name, shape in layers.items():
        tensors |= {f"{name}.weight": draw(*shape), f"{name}.bias": draw(shape[0])}
    return tensors | {f"{name}.weight": 1 + draw(size) for name, size in norms.items()}


def evaluate(
    tensors: dict[str, Tensor], heads: int, start: int, x: Tensor, t: Tensor, label: Tensor
) -> Tensor:
    """Apply the network: t is 1 for images and 0 for noise."""

    def dense(name: str, h: Tensor) -> Tensor:
        return F.linear(h, tensors[f"{name}.weight"].flatten(1), tensors[f"{name}.bias"])

    def norm(name: str, h: Tensor) -> Tensor:
        return h / ((h**2).mean(-1, keepdim=True) + 1e-6).sqrt() * tensors[f"{name}.weight"]

    h = F.conv2d(x, tensors["x_embedder.proj1.weight"], stride=tensors["x_embedder.proj1.weight"].shape[2])
    rows, columns = h.shape[2:]
    h = dense("x_embedder.proj2", h.flatten(2).transpose(1, 2)) + tensors["pos_embed"]
    width, tokens = h.shape[2], tensors["in_context_posemb"].shape[1]
    head = width // heads
    angle = t[:, None] * torch.exp(-math.log(10000) * torch.arange(128, dtype=x.dtype) / 128)
    time = dense(
        "t_embedder.mlp.2", F.silu(dense("t_embedder.mlp.0", torch.cat([angle.cos(), angle.sin()], 1)))
    )
    y = tensors["y_embedder.embedding_table.weight"][label]
    c = F.silu(time + y)
    # a complex number for every pair of neighboring features: rows turn the first half of the pairs, columns the other
    pairs = head // 4
    speed = 1 / 10000 ** (torch.arange(0, 2 * pairs, 2, dtype=x.dtype) / (2 * pairs))
    place = torch.arange(rows * columns)
    turn = torch.cat([(place // columns)[:, None] * speed, (place % columns)[:, None] * speed], 1)
    for index in range(len({name.split(".")[1] for name in tensors if name.startswith("blocks.")})):
        at = f"blocks.{index}"
        if index == start:
            h = torch.cat([y[:, None].expand(-1, tokens, -1) + tensors["in_context_posemb"], h], 1)
            turn = torch.cat([torch.zeros(tokens, turn.shape[1], dtype=x.dtype), turn])
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = dense(f"{at}.adaLN_modulation.1", c)[
            :, None
        ].chunk(6, 2)
        qkv = dense(f"{at}.attn.qkv", norm(f"{at}.norm1", h) * (1 + scale) + shift)
        q, k, v = qkv.reshape(len(x), -1, 3, heads, head).permute(2, 0, 3, 1, 4)
        phase = torch.polar(torch.ones_like(turn), turn)
        q, k = (
            torch.view_as_real(torch.view_as_complex(part.reshape(*part.shape[:3], -1, 2)) * phase).flatten(3)
            for part in (norm(f"{at}.attn.q_norm", q), norm(f"{at}.attn.k_norm", k))
        )
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        h = h + gate * dense(f"{at}.attn.proj", attended)
        one, two = dense(f"{at}.mlp.w12", norm(f"{at}.norm2", h) * (1 + scale_mlp) + shift_mlp).chunk(2, -1)
        h = h + gate_mlp * dense(f"{at}.mlp.w3", F.silu(one) * two)
    h = h[:, tokens:]
    shift, scale = dense("final_layer.adaLN_modulation.1", c)[:, None].chunk(2, 2)
    out = dense("final_layer.linear", norm("final_layer.norm_final", h) * (1 + scale) + shift)
    patch = tensors["x_embedder.proj1.weight"].shape[2]
    out = out.reshape(len(x), rows, columns, patch, patch, 3)
    return torch.einsum("nhwpqc->nchpwq", out).reshape(len(x), 3, rows * patch, columns * patch)
