"""Classifier from the encoder half of a U-Net."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from sde_gen.model.embedding import Positional
from sde_gen.model.norms import norm
from sde_gen.model.unet.base import check_shape
from sde_gen.model.unet.blocks import (
    AttentionBlock,
    DownBlock,
    IgnoreEmbedding,
    ResBlock,
    convolution,
    linear,
)
from sde_gen.model.unet.resample import Box


class Encoder(nn.Module):
    """Residual and attention blocks down to the coarsest level, averaged over its pixels: images to class logits.

    Source: Dhariwal and Nichol, 2021, arXiv:2105.05233, section 4 and appendix C, whose noisy classifiers are the
    downsampling half of their U-Nets; here with an average in place of attention pooling.

    Arguments:
        shape: event shape (C, H, W); H and W must be divisible by 2^(levels - 1).
        num_classes: number of classes, at least 2.
        width: channels of the finest level.
        multipliers: channels of every level, fine to coarse, in units of width.
        blocks: residual blocks a level.
        attention_levels: levels with attention, 0 being the finest.
        dropout: dropout rate.

    Raises:
        ValueError: an impossible shape or setting; the message lists valid ones.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        num_classes: int,
        width: int = 32,
        multipliers: Sequence[float] = (1, 2),
        blocks: int = 1,
        attention_levels: Sequence[int] = (1,),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        widths = check_shape(shape, width, multipliers, blocks, attention_levels, num_classes)
        if num_classes < 2:
            raise ValueError(f"num_classes={num_classes}: a classifier needs at least two classes")
        options = {"embedding": 4 * width, "dropout": dropout, "scale": 0.5**0.5}
        self.embedding = Positional(width)
        self.embed = nn.Sequential(linear(width, 4 * width), nn.SiLU(), linear(4 * width, 4 * width))
        self.stem = convolution(shape[0], width)
        self.path = nn.ModuleList()
        channels = width
        for level, outward in enumerate(widths):
            if level > 0:
                self.path.append(DownBlock(channels, resampler=Box(), **options))
            for _ in range(blocks):
                self.path.append(ResBlock(channels, outward, **options))
                channels = outward
                if level in attention_levels:
                    self.path.append(IgnoreEmbedding(AttentionBlock(channels, scale=options["scale"])))
        self.norm = norm(channels)
        self.out = linear(channels, num_classes)

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        """Map images (B, C, H, W) with noise labels (B,) to logits (B, num_classes)."""
        embedding = F.silu(self.embed(self.embedding(c_noise)))
        h = self.stem(x)
        for block in self.path:
            h = block(h, embedding)
        logits: Tensor = self.out(F.silu(self.norm(h)).mean((2, 3)))
        return logits
