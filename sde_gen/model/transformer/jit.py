"""Plain vision transformer on pixels (JiT)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sde_gen.model.conditional import NO_CONDITIONS, Conditions
from sde_gen.model.embedding import NoiseEmbedding
from sde_gen.model.transformer.blocks import attend
from sde_gen.model.transformer.dit import PatchTransformer, check_depth
from sde_gen.model.transformer.layers import RMSNorm
from sde_gen.model.transformer.modulated import Modulation, modulated
from sde_gen.model.unet.blocks import linear

THETA = 10000.0
"""Ratio of the largest and, nearly, the smallest frequency of the rotations."""


class JiT(PatchTransformer):
    """A transformer of large patches, whose width is far below the number of their pixels, and which predicts images.

    As :class:`~sde_gen.model.DiT` with RMS normalizations, normalized queries and keys that rotate with the place
    (RoPE), gated units (SwiGLU) and, from a block on, tokens of the class beside those of the image. Classes, vectors
    and texts as a whole also scale, shift and gate the layers.

    Source: Li and He, 2025, arXiv:2511.13720, section 4 and table 9. JiT-B/16 has patch 16, bottleneck 128, width 768,
    depth 12, 12 heads, 32 class tokens from block 4 on.

    Arguments:
        shape: event shape (C, H, W).
        patch: side of a patch, or one for every axis.
        width: features of a token, four times a multiple of the heads.
        depth: number of blocks.
        heads: number of heads of attention.
        hidden: gated units of a block; None for 8/3 of the width.
        bottleneck: features of a patch in between, fewer than its pixels; None for none.
        class_tokens: tokens of the class and of the other conditions; 0 for none.
        class_start: block from which on they are there.
        num_classes: number of classes, 0 for none; a further null class stands for "no label given".
        outputs: output channels per channel of the event: 2 with a learned variance.
        embedding: features of the noise label; None for 256.
        inputs: sizes of the conditions besides the class.
        stored_positions: whether the table of places belongs to the weights, as that of an imported network.

    Raises:
        ValueError: an impossible shape or setting; the message lists valid ones.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        patch: Sequence[int] = (2,),
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        hidden: int | None = None,
        bottleneck: int | None = None,
        class_tokens: int = 4,
        class_start: int = 1,
        num_classes: int = 0,
        outputs: int = 1,
        embedding: NoiseEmbedding | None = None,
        inputs: Conditions = NO_CONDITIONS,
        stored_positions: bool = False,
    ) -> None:
        super().__init__(
            shape=shape,
            patch=patch,
            width=width,
            bottleneck=bottleneck,
            num_classes=num_classes,
            outputs=outputs,
            embedding=embedding,
            inputs=inputs,
            stored_positions=stored_positions,
        )
        check_depth(depth, hidden, width)
        if len(self.patches.grid) != 2 or heads < 1 or width % (4 * heads):
            raise ValueError(
                f"shape={tuple(shape)}, width={width}, heads={heads}: expected (C, H, W), and as width a multiple of "
                f"{4 * max(heads, 1)}, four features for every head"
            )
        if class_tokens < 0 or not 0 <= class_start < depth:
            raise ValueError(
                f"class_tokens={class_tokens}, class_start={class_start}: expected no negative number, and a block "
                f"from 0 to {depth - 1}"
            )
        self.norm = RMSNorm(width)
        units = int(4 * width * 2 / 3) if hidden is None else hidden
        self.blocks = nn.ModuleList(JiTBlock(width, heads, units) for _ in range(depth))
        self.class_start = class_start
        self.class_places = nn.Parameter(0.02 * torch.randn(class_tokens, width)) if class_tokens else None
        angles = rotations(self.patches.grid, width // heads)
        self.register_buffer("angles", angles, persistent=False)

    angles: Tensor

    def forward(
        self,
        x: Tensor,
        c_noise: Tensor,
        *,
        label: Tensor | None = None,
        vector: Tensor | None = None,
        tokens: Tensor | None = None,
        mask: Tensor | None = None,
        image: Tensor | None = None,
        until: Tensor | None = None,
    ) -> Tensor:
        """Apply the network.

        Arguments:
            x: events with shape (B, C, H, W).
            c_noise: noise labels with shape (B,).
            label: classes with shape (B,); None stands for the null class.
            vector: vectors with shape (B, V); None stands for zeros, as in all of the following.
            tokens: texts with shape (B, L), padded with zeros, or embedded ones (B, L, inputs.features).
            mask: which of the embedded tokens are no padding, with shape (B, L); None: all.
            image: condition images with shape (B, inputs.image, H, W).
            until: noise labels of the times to map to with shape (B,); None: those of c_noise.

        Returns:
            (B, outputs * C, H, W).
        """
        text = self.encode_text(tokens, mask, x)
        time = self.with_until(self.embed(self.embedding(c_noise)), c_noise, until)
        given = self.embed_conditions(torch.zeros_like(time), label=label, vector=vector, text=text)
        embedding, h, angles = F.silu(time + given), self.tokens_of(self.with_image(x, image)), self.angles
        for index, block in enumerate(self.blocks):
            if self.class_places is not None and index == self.class_start:
                h = torch.cat([given.unsqueeze(1) + self.class_places, h], dim=1)
                angles = F.pad(angles, (0, 0, len(self.class_places), 0))
            h = block(h, embedding, angles)
        return self.event_of(h[:, -len(self.angles) :], embedding)


class JiTBlock(nn.Module):
    """Self-attention with rotations and gated units, whose inputs are scaled and shifted and whose outputs are gated.

    Arguments:
        width: features of a token, and of the embedding.
        heads: number of heads, which divides the features.
        hidden: gated units.
    """

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.modulation = Modulation(width, width, 6)
        self.norm_attention, self.norm_mlp = RMSNorm(width), RMSNorm(width)
        self.query, self.key, self.value, self.out = (linear(width, width) for _ in range(4))
        self.norm_query, self.norm_key = RMSNorm(width // heads), RMSNorm(width // heads)
        self.up, self.down = linear(width, 2 * hidden), linear(hidden, width)

    def forward(self, x: Tensor, embedding: Tensor, angles: Tensor) -> Tensor:
        """Apply the block to x (B, N, width), with the angles (N, head / 2) of its tokens."""
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = self.modulation(embedding)
        h = modulated(self.norm_attention(x), shift, scale)
        query, key, value = (
            part(h).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        query, key = rotated(self.norm_query(query), angles), rotated(self.norm_key(key), angles)
        x = x + gate * self.out(attend(query, key, value))
        units, gates = self.up(modulated(self.norm_mlp(x), shift_mlp, scale_mlp)).chunk(2, dim=-1)
        out: Tensor = x + gate_mlp * self.down(F.silu(units) * gates)
        return out


def rotations(grid: Sequence[int], head: int) -> Tensor:
    r"""Return the angles of the pairs of features of every token.

    The first half of the pairs turns with the row by :math:`10000^{-4 i / head}` for i = 0 ... head / 4 - 1, the other
    with the column.

    Source: Su et al., 2021, arXiv:2104.09864, section 3.2; along both axes: Fang et al., 2023, arXiv:2303.11331.

    Arguments:
        grid: number of rows and of columns.
        head: features of a head, a multiple of 4.

    Returns:
        (N, head / 2).
    """
    count = head // 4
    omega = THETA ** (-torch.arange(count, dtype=torch.float64) / count)
    rows, columns = torch.meshgrid(*(torch.arange(side, dtype=torch.float64) for side in grid), indexing="ij")
    return torch.cat([rows.reshape(-1, 1) * omega, columns.reshape(-1, 1) * omega], dim=1)


def rotated(x: Tensor, angles: Tensor) -> Tensor:
    """Rotate features 2 i and 2 i + 1 of queries or keys (B, heads, N, head) by the angles (N, head / 2)."""
    cos, sin = (part.to(x.dtype) for part in (angles.cos(), angles.sin()))
    first, second = torch.unflatten(x, -1, (-1, 2)).unbind(-1)
    turned = first * cos - second * sin, second * cos + first * sin
    return torch.stack(turned, dim=-1).flatten(-2)
