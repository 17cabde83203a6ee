"""U-Net of DDPM (Ho et al., 2020)."""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from sde_gen.model.adm.level_resample import ConvResample, LevelResample
from sde_gen.model.conditional import NO_CONDITIONS, Conditions, EmbeddedNetwork
from sde_gen.model.embedding import NoiseEmbedding, Positional
from sde_gen.model.norms import FixedGroups, GroupNormRule
from sde_gen.model.text.encoder import TextFeatures
from sde_gen.model.unet.base import RANKS, check_shape
from sde_gen.model.unet.blocks import AttentionBlock, IgnoreEmbedding, ResBlock, convolution_of, linear
from sde_gen.model.unet.resample import Box, Resampler
from sde_gen.model.unet.stages import apply_stages, decoder_stages, encoder_stages


class DDPMUNet(EmbeddedNetwork):
    """The U-Net of DDPM: attention after every block of its levels, resolution changed by convolutions.

    Source: Ho et al., 2020, arXiv:2006.11239, appendix B. Their CIFAR-10 network is width 128, multipliers
    (1, 2, 2, 2), 2 blocks, attention at level 1, norms in 32 groups: 35.7 million parameters.

    Arguments:
        shape: event shape (C, *sides) of one to three axes; sides must be divisible by 2^(levels - 1).
        width: channels of the finest level.
        multipliers: channels of every level, fine to coarse, in units of width.
        blocks: residual blocks a level.
        attention_levels: levels with attention, 0 being the finest.
        head_channels: channels of a head of attention, None for one head.
        dropout: dropout rate.
        num_classes: number of classes, 0 for none; a further null class stands for "no label given".
        outputs: output channels per image channel: 2 with a learned variance.
        middle_attention: whether there is attention at the coarsest level's middle.
        embedding: features of the noise label; None for ``width`` many as in the source.
        change: how the resolution changes between two levels.
        resampler: the change of resolution.
        norms: rule of the normalizations.
        inputs: sizes of the conditions besides the class.

    Raises:
        ValueError: an impossible shape or setting; the message lists valid ones.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        width: int = 32,
        multipliers: Sequence[float] = (1, 2),
        blocks: int = 2,
        attention_levels: Sequence[int] = (1,),
        head_channels: int | None = None,
        dropout: float = 0.0,
        num_classes: int = 0,
        outputs: int = 1,
        middle_attention: bool = True,
        embedding: NoiseEmbedding | None = None,
        change: LevelResample = ConvResample(),  # noqa: B008 (frozen)
        resampler: Resampler | None = None,
        norms: GroupNormRule = FixedGroups(groups=8),  # noqa: B008 (frozen)
        inputs: Conditions = NO_CONDITIONS,
    ) -> None:
        super().__init__()
        widths = check_shape(shape, width, multipliers, blocks, attention_levels, num_classes, RANKS)
        if outputs < 1:
            raise ValueError(f"outputs={outputs} must be at least 1")
        rank, hidden = len(shape) - 1, 4 * width
        resampler = (Box() if resampler is None else resampler).along(rank)
        self.embedding = Positional(width) if embedding is None else embedding
        self.embed = nn.Sequential(
            linear(self.embedding.features, hidden),
            nn.SiLU(),
            linear(hidden, hidden),
        )
        self.add_conditions(hidden, num_classes, inputs)
        options: dict[str, Any] = {
            "embedding": hidden,
            "dropout": dropout,
            "scale": 1.0,
            "norms": norms,
        }

        def attention(channels: int, normalize: nn.Module) -> nn.Module:
            heads = 1 if head_channels is None else max(channels // head_channels, 1)
            return IgnoreEmbedding(
                AttentionBlock(channels, scale=1.0, heads=heads, normalize=normalize, rank=rank)
            )

        def block(inward: int, outward: int, norm_in: nn.GroupNorm | None = None) -> ResBlock:
            return ResBlock(inward, outward, norm_in=norm_in, rank=rank, **options)

        self.stem = convolution_of(rank, shape[0] + inputs.image, width)
        self.down, self.middle, self.up = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for stage in encoder_stages(width, widths, blocks):
            modules: list[nn.Module] = [block(stage.inputs, stage.outputs)]
            if stage.level in attention_levels:
                modules.append(attention(stage.outputs, norms.attention(stage.outputs)))
            self.down.append(SequentialStage(modules))
            if stage.last and stage.level < len(widths) - 1:
                self.down.append(SequentialStage([change.down(stage.outputs, resampler, **options)]))
        channels = widths[-1]
        self.middle.append(block(channels, channels))
        if middle_attention:
            self.middle.append(attention(channels, norms.middle(channels)))
        self.middle.append(block(channels, channels))
        for stage in decoder_stages(width, widths, blocks):
            attended = stage.level in attention_levels
            norm_in = norms.joined(stage.inputs, attended=attended)
            modules = [block(stage.inputs, stage.outputs, norm_in)]
            if attended:
                modules.append(attention(stage.outputs, norms.attention(stage.outputs)))
            if stage.last and stage.level > 0:
                modules.append(change.up(stage.outputs, resampler, **options))
            self.up.append(SequentialStage(modules))
        self.norm = norms.block(widths[0])
        self.out = convolution_of(rank, widths[0], outputs * shape[0], zero=True)

    def apply_blocks(
        self, x: Tensor, image: Tensor | None, embedding: Tensor, text: TextFeatures | None
    ) -> Tensor:
        """Apply encoder and decoder; the text is part of the embedding."""
        del text
        h = apply_stages(self.stem(self.with_image(x, image)), self.down, self.middle, self.up, embedding)
        out: Tensor = self.out(F.silu(self.norm(h)))
        return out


class SequentialStage(nn.ModuleList):
    """Modules of a stage, each called with features and embedding, in order."""

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        """Apply the modules to features (B, C, H, W)."""
        for module in self:
            h = module(h, embedding)
        return h
