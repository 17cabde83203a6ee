"""Blocks with adaptive normalization by a mapping network."""

import torch.nn.functional as F
from torch import Tensor, nn

from sde_gen.model.adm.blocks import Heads
from sde_gen.model.norms import GroupNorm
from sde_gen.model.unet.blocks import convolution, initialize, linear


class KDiffusionStage(nn.Module):
    """The blocks of a level, each with attention after it or without, and a change of resolution at one end.

    Arguments:
        inputs: input channels.
        inner: channels between the blocks.
        outputs: output channels.
        depth: number of blocks.
        attends: whether attention follows every block.
        features: features of the mapping network.
        dropout: dropout rate.
        before: change of resolution before the blocks, None for none.
        after: change of resolution after the blocks, None for none.
    """

    def __init__(
        self,
        inputs: int,
        inner: int,
        outputs: int,
        *,
        depth: int,
        attends: bool,
        features: int,
        dropout: float,
        before: nn.Module | None = None,
        after: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList([] if before is None else [before])
        for index in range(depth):
            leaving = outputs if index == depth - 1 else inner
            self.layers.append(MappedBlock(inner if index else inputs, inner, leaving, features, dropout))
            if attends:
                self.layers.append(MappedAttention(leaving, features, dropout))
        if after is not None:
            self.layers.append(after)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Apply the layers in order."""
        for layer in self.layers:
            x = layer(x, embedding)
        return x


class MappedNorm(nn.Module):
    """Group normalization in groups of about 32 channels, scaled and shifted by the features of the mapping network."""

    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        groups = max(1, channels // 32)
        if channels % groups:
            raise ValueError(
                f"{channels} channels cannot be normalized in {groups} equal groups; take multiples of 32"
            )
        self.norm = GroupNorm(groups, channels, eps=1e-5, affine=False)
        self.embed = linear(features, 2 * channels, zero=True)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Normalize x (B, C, H, W) with the features (B, features)."""
        scale, shift = self.embed(embedding).unflatten(1, (2, -1, 1, 1)).unbind(1)
        out: Tensor = self.norm(x) * (1 + scale) + shift
        return out


class MappedBlock(nn.Module):
    """A residual block both of whose normalizations the mapping network scales and shifts.

    Arguments:
        inputs: input channels.
        inner: channels between the two convolutions.
        outputs: output channels.
        features: features of the mapping network.
        dropout: rate of dropout, of whole channels.
    """

    def __init__(self, inputs: int, inner: int, outputs: int, features: int, dropout: float) -> None:
        super().__init__()
        self.norm_in = MappedNorm(inputs, features)
        self.conv_in = convolution(inputs, inner)
        self.norm_out = MappedNorm(inner, features)
        self.conv_out = convolution(inner, outputs, zero=True)
        self.dropout = nn.Dropout2d(dropout)
        self.skip: nn.Module = nn.Identity()
        if inputs != outputs:
            self.skip = initialize(nn.Conv2d(inputs, outputs, 1, bias=False), zero=False)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Apply the block to x (B, inputs, H, W) and the features (B, features)."""
        h = self.dropout(self.conv_in(F.gelu(self.norm_in(x, embedding))))
        out: Tensor = self.skip(x) + self.dropout(self.conv_out(F.gelu(self.norm_out(h, embedding))))
        return out


class MappedAttention(Heads):
    """Self-attention over the pixels in heads of about 64 channels, with adaptive normalization."""

    def __init__(self, channels: int, features: int, dropout: float) -> None:
        heads = max(1, channels // 64)
        if channels % heads:
            raise ValueError(
                f"{channels} channels cannot be shared evenly by {heads} heads; take multiples of 64"
            )
        super().__init__(MappedNorm(channels, features), channels, heads, dropout)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Attend: x (B, C, H, W) with the features (B, features) to the shape of x."""
        out: Tensor = x + self.mix(self.norm(x, embedding))
        return out
