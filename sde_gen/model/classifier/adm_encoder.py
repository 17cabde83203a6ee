"""Classifier from the encoder half of ADM."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from sde_gen.model.adm.blocks import ADMBuilder
from sde_gen.model.adm.level_resample import LevelResample
from sde_gen.model.classifier.pooling import AttentionPooling, Pooling
from sde_gen.model.embedding import CosinePositional
from sde_gen.model.norms import GCDGroups, GroupNormRule
from sde_gen.model.unet.base import check_shape
from sde_gen.model.unet.blocks import convolution, linear
from sde_gen.model.unet.resample import CenteredBox


class ADMEncoder(nn.Module):
    """The classifier of noised images of ablated diffusion models: the first half of their U-Net, and a pool.

    Source: Dhariwal and Nichol, 2021, arXiv:2105.05233, section 4 and appendix C. Their ImageNet 64x64 classifier
    is width 128, multipliers (1, 2, 3, 4), 4 blocks, attention at levels 1, 2 and 3.

    Arguments:
        shape: event shape (C, H, W); H and W must be divisible by 2^(levels - 1).
        num_classes: number of classes, at least 2.
        width: features of the noise label, and the unit of channels.
        multipliers: channels of every level, fine to coarse, in units of width; the stem has those of the finest.
        blocks: residual blocks a level.
        attention_levels: levels with attention, 0 being the finest.
        head_channels: channels of a head of attention; fewer where a level has no multiple of them.
        dropout: dropout rate.
        heads: number of heads at every level in place of ``head_channels``, None for those.
        modulated: whether the embedding scales and shifts the second normalization of a block, or is added before it.
        change: how the resolution changes between two levels, None for blocks like the others.
        norms: rule of the normalizations.
        pool: pooling of the features to logits.

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
        blocks: int = 2,
        attention_levels: Sequence[int] = (1,),
        head_channels: int = 64,
        dropout: float = 0.0,
        heads: int | None = None,
        modulated: bool = True,
        change: LevelResample | None = None,
        norms: GroupNormRule = GCDGroups(),  # noqa: B008 (frozen)
        pool: Pooling = AttentionPooling(),  # noqa: B008 (frozen)
    ) -> None:
        super().__init__()
        widths = check_shape(shape, width, multipliers, blocks, attention_levels, num_classes)
        if num_classes < 2:
            raise ValueError(f"num_classes={num_classes}: a classifier needs at least two classes")
        builder = ADMBuilder(
            embedding=4 * width,
            dropout=dropout,
            modulated=modulated,
            change=change,
            norms=norms,
            attention_levels=attention_levels,
            head_channels=head_channels,
            heads=heads,
            resampler=CenteredBox(),
        )
        self.embedding = CosinePositional(width)
        self.embed = nn.Sequential(linear(width, 4 * width), nn.SiLU(), linear(4 * width, 4 * width))
        self.stem = convolution(shape[0], widths[0])
        self.down, channels = builder.down(widths, blocks)
        self.middle = builder.middle(channels[-1])
        pixels = (shape[1] >> len(widths) - 1) * (shape[2] >> len(widths) - 1)
        self.pool = pool.build([*channels, channels[-1]], pixels, num_classes, norms)

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        """Map images (B, C, H, W) with noise labels (B,) to logits (B, num_classes)."""
        embedding = F.silu(self.embed(self.embedding(c_noise)))
        features = [self.stem(x)]
        for stage in self.down:
            features.append(stage(features[-1], embedding))
        h = features[-1]
        for stage in self.middle:
            h = stage(h, embedding)
        logits: Tensor = self.pool([*features, h])
        return logits
