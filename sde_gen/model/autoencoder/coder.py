"""Encoder and decoder of an autoencoder of images."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from sde_gen.model.activation import Activation
from sde_gen.model.norms import GroupNormRule
from sde_gen.model.unet.blocks import AttentionBlock, convolution
from sde_gen.model.unet.resample import Box


class CoderBlock(nn.Module):
    """A residual block without an embedding: normalization, activation and convolution, twice.

    Arguments:
        inputs: input channels.
        outputs: output channels.
        norms: rule of the normalizations.
        activation: activation.
    """

    def __init__(self, inputs: int, outputs: int, *, norms: GroupNormRule, activation: Activation) -> None:
        super().__init__()
        self.norm_in = norms.block(inputs)
        self.conv_in = convolution(inputs, outputs)
        self.norm_out = norms.block(outputs)
        self.conv_out = convolution(outputs, outputs, zero=True)
        self.skip: nn.Module = nn.Identity() if inputs == outputs else convolution(inputs, outputs, 1)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to (B, inputs, H, W)."""
        h = self.conv_in(self.activation(self.norm_in(x)))
        out: Tensor = self.skip(x) + self.conv_out(self.activation(self.norm_out(h)))
        return out


@dataclass(frozen=True, kw_only=True)
class CoderLayout:
    """The settings that encoder and decoder share.

    Arguments:
        channels: channels of every level, fine to coarse.
        blocks: residual blocks of every level of the encoder; the decoder has one more.
        attention_levels: levels with attention after every block, 0 being the finest.
        middle_attention: whether there is attention at the coarsest level, in the middle.
        norms: rule of the normalizations.
        activation: activation of the residual blocks.
    """

    channels: Sequence[int]
    blocks: int
    attention_levels: Sequence[int]
    middle_attention: bool
    norms: GroupNormRule
    activation: Activation

    def grid(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Return the sides of the features of images with event shape (C, H, W).

        Raises:
            ValueError: the sizes define no network.
        """
        if len(shape) != 3:
            raise ValueError(f"shape={shape}: an autoencoder takes images (C, H, W)")
        if not self.channels or min(self.channels) < 1 or self.blocks < 1:
            raise ValueError(
                f"channels={list(self.channels)}, blocks={self.blocks}: expected positive channels for every level, "
                "and at least one block"
            )
        coarsest = len(self.channels) - 1
        factor = 2**coarsest
        if any(side % factor or side < factor for side in shape[1:]):
            raise ValueError(
                f"images of {shape[1]}x{shape[2]} do not halve {coarsest} times: sides must be multiples of "
                f"{factor}; or give fewer channels than {list(self.channels)}"
            )
        if any(not 0 <= level <= coarsest for level in self.attention_levels):
            raise ValueError(
                f"attention_levels={list(self.attention_levels)}: there are levels 0 to {coarsest}"
            )
        return shape[1] // factor, shape[2] // factor


class Coder(nn.Module):
    """The parts that encoder and decoder have in common.

    Source: Rombach et al., 2022, arXiv:2112.10752, section 3.1 and appendix G; the network is that of Esser et al.,
    2021, arXiv:2012.09841, table 7.

    Arguments:
        layout: settings that encoder and decoder share.
    """

    def __init__(self, layout: CoderLayout) -> None:
        super().__init__()
        self.layout = layout
        width = layout.channels[-1]
        self.middle_in = self.block(width, width)
        self.middle_attention = self.attend(width) if layout.middle_attention else nn.Identity()
        self.middle_out = self.block(width, width)

    def block(self, inputs: int, outputs: int) -> CoderBlock:
        """Build a residual block."""
        return CoderBlock(inputs, outputs, norms=self.layout.norms, activation=self.layout.activation)

    def attend(self, channels: int) -> AttentionBlock:
        """Build an attention block."""
        return AttentionBlock(channels, scale=1.0, normalize=self.layout.norms.attention(channels))

    def stage(self, level: int, inputs: int, outputs: int, blocks: int) -> nn.Sequential:
        """Build the blocks of a level, with their attention."""
        layers: list[nn.Module] = []
        for index in range(blocks):
            layers.append(self.block(outputs if index else inputs, outputs))
            layers.append(self.attend(outputs) if level in self.layout.attention_levels else nn.Identity())
        return nn.Sequential(*layers)

    def middle(self, h: Tensor) -> Tensor:
        """Apply the blocks at the coarsest level."""
        out: Tensor = self.middle_out(self.middle_attention(self.middle_in(h)))
        return out


class ImageEncoder(Coder):
    """Convolutional encoder: blocks, halving convolutions padded at the right and at the bottom, blocks.

    Arguments:
        layout: settings that encoder and decoder share.
        inputs: channels of the images.
        outputs: channels of the features.
    """

    def __init__(self, layout: CoderLayout, *, inputs: int, outputs: int) -> None:
        super().__init__(layout)
        channels = layout.channels
        self.stem = convolution(inputs, channels[0])
        self.stages, self.descend = nn.ModuleList(), nn.ModuleList()
        before, box = channels[0], Box()
        for level, width in enumerate(channels):
            self.stages.append(self.stage(level, before, width, layout.blocks))
            if level < len(channels) - 1:
                self.descend.append(box.down_convolution(width, width))
            before = width
        self.norm = layout.norms.block(channels[-1])
        self.out = convolution(channels[-1], outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, inputs, H, W) to features (B, outputs, H / 2^n, W / 2^n)."""
        h = self.stem(x)
        for level, stage in enumerate(self.stages):
            h = stage(h)
            if level < len(self.descend):
                h = self.descend[level](h)
        out: Tensor = self.out(F.silu(self.norm(self.middle(h))))
        return out


class ImageDecoder(Coder):
    """Convolutional decoder: blocks, repeated pixels and convolutions, with one more block a level than the encoder.

    Arguments:
        layout: settings that encoder and decoder share.
        inputs: channels of the features.
        outputs: channels of the images.
    """

    def __init__(self, layout: CoderLayout, *, inputs: int, outputs: int) -> None:
        super().__init__(layout)
        channels = layout.channels
        self.stem = convolution(inputs, channels[-1])
        self.stages, self.ascend = nn.ModuleList(), nn.ModuleList()
        before, box = channels[-1], Box()
        for level, width in reversed(list(enumerate(channels))):
            self.stages.append(self.stage(level, before, width, layout.blocks + 1))
            if level > 0:
                self.ascend.append(box.up_convolution(width, width))
            before = width
        self.norm = layout.norms.block(channels[0])
        self.out = convolution(channels[0], outputs)

    def forward(self, z: Tensor) -> Tensor:
        """Map features (B, inputs, h, w) to images (B, outputs, 2^n h, 2^n w)."""
        h = self.middle(self.stem(z))
        for level, stage in enumerate(self.stages):
            h = stage(h)
            if level < len(self.ascend):
                h = self.ascend[level](h)
        out: Tensor = self.out(F.silu(self.norm(h)))
        return out
