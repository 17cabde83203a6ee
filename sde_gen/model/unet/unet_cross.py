"""U-Net with attention to the tokens of a text."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from sde_gen.model.conditional import NO_CONDITIONS, Conditions, EmbeddedNetwork
from sde_gen.model.embedding import CosinePositional
from sde_gen.model.norms import GroupNormRule, QuarterGroups
from sde_gen.model.text.encoder import TextFeatures
from sde_gen.model.unet.base import check_shape
from sde_gen.model.unet.blocks import ResBlock, convolution_of, linear
from sde_gen.model.unet.encoder_features import Encoded
from sde_gen.model.unet.spatial_transformer import SpatialTransformer
from sde_gen.model.unet.stages import apply_decoder, apply_encoder, decoder_stages, encoder_stages


class UNetCross(EmbeddedNetwork):
    """A U-Net of residual blocks and transformer blocks, in which pixels attend to each other and to the text.

    Class, vector and the whole text are added to the embedding of the noise label, which residual blocks see; the
    tokens of the text are the context of cross-attention. Without texts there is none.

    Source: Rombach et al., 2022, arXiv:2112.10752, section 3.3; attention to all tokens: Nichol et al., 2021,
    arXiv:2112.10741 (GLIDE), section 4.1.

    Arguments:
        shape: event shape (C, *sides) of one to three axes; sides must be divisible by 2^(levels - 1).
        width: channels of the finest level, and features of the noise label.
        multipliers: channels of every level, fine to coarse, in units of width.
        blocks: residual blocks a level.
        attention_levels: levels with transformer blocks, 0 being the finest.
        head_channels: channels of a head of attention.
        depth: transformer blocks after a residual block.
        dropout: dropout rate of the residual blocks.
        num_classes: number of classes, 0 for none; a further null class stands for "no label given".
        outputs: output channels per image channel: 2 with a learned variance.
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
        blocks: int = 1,
        attention_levels: Sequence[int] = (1,),
        head_channels: int = 32,
        depth: int = 1,
        dropout: float = 0.0,
        num_classes: int = 0,
        outputs: int = 1,
        norms: GroupNormRule = QuarterGroups(),  # noqa: B008 (frozen)
        inputs: Conditions = NO_CONDITIONS,
    ) -> None:
        super().__init__()
        widths = check_shape(
            shape, width, multipliers, blocks, attention_levels, num_classes, ranks=(1, 2, 3)
        )
        if min(outputs, head_channels, depth) < 1:
            raise ValueError(
                f"outputs={outputs}, head_channels={head_channels}, depth={depth}: all must be at least 1"
            )
        embedded, rank = 4 * width, len(shape) - 1
        self.embedding = CosinePositional(width)
        self.embed = nn.Sequential(linear(width, embedded), nn.SiLU(), linear(embedded, embedded))
        self.add_conditions(embedded, num_classes, inputs)
        context = embedded if inputs.text else None

        def block(inward: int, outward: int) -> nn.Module:
            return ResBlock(
                inward, outward, embedding=embedded, dropout=dropout, scale=1.0, norms=norms, rank=rank
            )

        def attention(level: int, channels: int) -> nn.Module | None:
            if level not in attention_levels:
                return None
            if channels % head_channels:
                raise ValueError(
                    f"level {level} has {channels} channels, no multiple of head_channels={head_channels}"
                )
            return SpatialTransformer(
                channels, channels // head_channels, context, depth, norms.attention(channels), rank
            )

        self.stem = convolution_of(rank, shape[0] + inputs.image, width)
        self.down, self.up, self.channels = nn.ModuleList(), nn.ModuleList(), [width]
        for stage in encoder_stages(width, widths, blocks):
            self.down.append(
                CrossAttentionStage(block(stage.inputs, stage.outputs), attention(stage.level, stage.outputs))
            )
            self.channels.append(stage.outputs)
            if stage.last and stage.level < len(widths) - 1:
                self.down.append(CrossAttentionStage(Down(rank, stage.outputs)))
                self.channels.append(stage.outputs)
        coarsest, channels = len(widths) - 1, widths[-1]
        self.middle = nn.ModuleList(
            [
                CrossAttentionStage(block(channels, channels), attention(coarsest, channels)),
                CrossAttentionStage(block(channels, channels)),
            ]
        )
        for stage in decoder_stages(width, widths, blocks):
            finer = Up(rank, stage.outputs) if stage.last and stage.level else None
            joined = block(stage.inputs, stage.outputs)
            self.up.append(CrossAttentionStage(joined, attention(stage.level, stage.outputs), finer))
        self.norm = norms.block(widths[0])
        self.out = convolution_of(rank, widths[0], outputs * shape[0], zero=True)

    def apply_blocks(
        self, x: Tensor, image: Tensor | None, embedding: Tensor, text: TextFeatures | None
    ) -> Tensor:
        """Apply encoder and decoder, whose pixels attend to the text."""
        h = self.stem(self.with_image(x, image))
        skips, middle = apply_encoder(h, self.down, self.middle, embedding, text)
        return self.decode(Encoded(skips, middle, embedding, text))

    def encode(
        self,
        x: Tensor,
        c_noise: Tensor,
        *,
        image: Tensor | None = None,
        added: Tensor | None = None,
        **conditions: Tensor | None,
    ) -> Encoded:
        """Apply embeddings, encoder and middle.

        Arguments:
            x: events with shape (B, C, *sides).
            c_noise: noise labels with shape (B,).
            image: condition images with shape (B, inputs.image, *sides); None stands for zeros, or there are none.
            added: features to be added after the first convolution; None for none.
            conditions: the other conditions, as in a call of the network.
        """
        embedding, text = self.embed_inputs(x, c_noise, **conditions)
        h = self.stem(self.with_image(x, image))
        h = h if added is None else h + added
        skips, middle = apply_encoder(h, self.down, self.middle, embedding, text)
        return Encoded(skips, middle, embedding, text)

    def decode(self, encoded: Encoded) -> Tensor:
        """Apply the decoder, with the features of the encoder as skip connections."""
        h = apply_decoder(encoded.middle, encoded.skips, self.up, encoded.embedding, encoded.text)
        out: Tensor = self.out(F.silu(self.norm(h)))
        return out


class Down(nn.Module):
    """A convolution of stride 2, padded on all sides."""

    def __init__(self, rank: int, channels: int) -> None:
        super().__init__()
        self.conv = convolution_of(rank, channels, channels, stride=2)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Halve the sides of (B, C, *sides)."""
        del embedding
        out: Tensor = self.conv(x)
        return out


class Up(nn.Module):
    """Nearest neighbors, then a convolution."""

    def __init__(self, rank: int, channels: int) -> None:
        super().__init__()
        self.conv = convolution_of(rank, channels, channels)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Double the sides of (B, C, *sides)."""
        del embedding
        out: Tensor = self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))
        return out


class CrossAttentionStage(nn.Module):
    """A residual block or a change of resolution, then transformer blocks, then a change of resolution.

    Arguments:
        block: called with features and embedding.
        attention: called with features, context and mask; None for none.
        change: called with features and embedding; None for none.
    """

    def __init__(
        self, block: nn.Module, attention: nn.Module | None = None, change: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.block, self.attention, self.change = block, attention, change

    def forward(self, x: Tensor, embedding: Tensor, text: TextFeatures | None) -> Tensor:
        """Apply all to (B, C, *sides)."""
        h: Tensor = self.block(x, embedding)
        if self.attention is not None:
            h = self.attention(h, *((None, None) if text is None else (text.tokens, text.mask)))
        return h if self.change is None else self.change(h, embedding)
