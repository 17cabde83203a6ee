"""Residual blocks, changes of resolution and stages of U-Nets with conditions."""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from sde_gen.model.activation import Activation
from sde_gen.model.norms import GroupNormRule
from sde_gen.model.unet.blocks import ResBlock, convolution, linear


class ConditionedBlock(ResBlock):
    """A residual block whose embedding is added, or scales and shifts the second normalization.

    Sources: Ho et al., 2020, arXiv:2006.11239, appendix B (added); Dhariwal and Nichol, 2021, arXiv:2105.05233,
    section 3.1 (scale and shift, and the change of resolution inside a block).

    Arguments:
        inputs: input channels.
        outputs: output channels.
        embedding: features of the embedding.
        dropout: dropout rate.
        scale: factor of the sum of the two branches.
        norms: rule of the normalizations.
        activation: activation of the block.
        modulated: whether the embedding scales and shifts, or is added.
        activated: whether the activation is applied to the embedding, too.
        change: change of the resolution of both branches; None for none.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        embedding: int,
        dropout: float,
        scale: float,
        norms: GroupNormRule,
        activation: Activation,
        modulated: bool,
        activated: bool,
        change: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__(
            inputs,
            outputs,
            embedding=embedding,
            dropout=dropout,
            scale=scale,
            norms=norms,
            activation=activation,
        )
        self.modulated, self.activated, self.change = modulated, activated, change
        if modulated:
            self.embed = linear(embedding, 2 * outputs)

    def resample(self, x: Tensor) -> Tensor:
        """Change the resolution, where a change was given."""
        return x if self.change is None else self.change(x)

    def condition(self, h: Tensor, embedding: Tensor) -> Tensor:
        """Normalize features (B, outputs, H, W), given the embedding (B, embedding)."""
        embedding = self.activation(embedding) if self.activated else embedding
        if not self.modulated:
            return super().condition(h, embedding)
        scale, shift = self.embed(embedding).unflatten(1, (-1, 1, 1)).chunk(2, dim=1)
        out: Tensor = self.norm_out(h) * (1 + scale) + shift
        return out


def halved(x: Tensor) -> Tensor:
    """Average blocks of 2 x 2 pixels of (B, C, H, W)."""
    return F.avg_pool2d(x, 2)


def doubled(x: Tensor) -> Tensor:
    """Repeat every pixel of (B, C, H, W) in a block of 2 x 2."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


class ChangingBlock(ConditionedBlock):
    """A residual block that changes the resolution, as a change of resolution."""

    def forward(self, x: Tensor, embedding: Tensor, sides: Sequence[int] = ()) -> Tensor:
        """Apply the block to (B, C, H, W); the sides are halved or doubled, whatever ``sides`` are."""
        del sides
        return super().forward(x, embedding)


class HalvingConvolution(nn.Module):
    """A convolution of stride 2, padded on all sides, or at the right and at the bottom alone."""

    def __init__(self, channels: int, *, padded: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=int(padded))
        self.padded = padded

    def forward(self, x: Tensor, embedding: Tensor, sides: Sequence[int] = ()) -> Tensor:
        """Halve the sides of (B, C, H, W)."""
        del embedding, sides
        out: Tensor = self.conv(x if self.padded else F.pad(x, (0, 1, 0, 1)))
        return out


class DoublingConvolution(nn.Module):
    """Nearest neighbors, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = convolution(channels, channels)

    def forward(self, x: Tensor, embedding: Tensor, sides: Sequence[int]) -> Tensor:
        """Change (B, C, H, W) to the given sides: twice as large, or one less where the encoder had odd sides."""
        del embedding
        out: Tensor = self.conv(F.interpolate(x, size=list(sides), mode="nearest"))
        return out


class ConditionedStage(nn.Module):
    """Layers between two skip connections: a residual block, attention, a change of resolution, each optional.

    Arguments:
        block: called with features and embedding.
        attention: called with features, tokens and mask.
        change: called with features, embedding, and the sides wanted.
    """

    def __init__(
        self,
        block: nn.Module | None = None,
        attention: nn.Module | None = None,
        change: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.block, self.attention, self.change = block, attention, change

    def forward(
        self,
        x: Tensor,
        embedding: Tensor,
        tokens: Tensor | None,
        mask: Tensor | None,
        sides: Sequence[int] = (),
    ) -> Tensor:
        """Apply the layers to (B, C, H, W); ``sides`` are those after a doubling."""
        if self.block is not None:
            x = self.block(x, embedding)
        if self.attention is not None:
            x = self.attention(x, tokens, mask)
        return x if self.change is None else self.change(x, embedding, sides)
