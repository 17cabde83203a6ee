"""ADM."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sde_gen.model.blocks import Dropout, convolution, linear
from sde_gen.model.change import Change
from sde_gen.model.embedding import CosinePositional, Features
from sde_gen.model.norms import Common, Norms
from sde_gen.model.resample import CentredBox, Resampler
from sde_gen.model.unet import check_shape, with_class


class ADM(nn.Module):
    """The U-Net of ablated diffusion models: adaptive normalisation, many heads, resolution changed inside blocks.

    Source: Dhariwal and Nichol, 2021, arXiv:2105.05233, sections 3 and 3.1. Their ImageNet 64x64 network is width 192,
    multipliers (1, 2, 3, 4), 3 blocks, attention at levels 1, 2 and 3: 296 million parameters.

    Arguments:
        shape: event shape (C, H, W); H and W must be divisible by 2^(levels - 1).
        width: channels of the finest level.
        multipliers: channels of every level, fine to coarse, in units of width.
        blocks: residual blocks a level.
        attention_levels: levels with attention, 0 being the finest.
        head_channels: channels of a head of attention; fewer where a level has no multiple of them.
        heads: number of heads at every level in place of ``head_channels``, None for those.
        modulated: whether the embedding scales and shifts the second normalisation of a block, or is added before it.
        change: how the resolution changes between two levels, None for blocks like the others.
        norms: rule of the normalisations.
        dropout: dropout rate.
        num_classes: number of classes, 0 for none; a further null class stands for "no label given".
        outputs: numbers given out for every number of the image: 2 with a learned variance.
        middle_attention: whether there is attention at the coarsest level's middle.
        embedding: features of the noise label; None for ``width`` many as in the source.
        resampler: the change of resolution, None for averages and repeated pixels.

    Raises:
        ValueError: an impossible shape or setting; the message says what would do.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        width: int = 32,
        multipliers: Sequence[int] = (1, 2),
        blocks: int = 2,
        attention_levels: Sequence[int] = (1,),
        head_channels: int = 64,
        dropout: float = 0.0,
        num_classes: int = 0,
        outputs: int = 1,
        heads: int | None = None,
        modulated: bool = True,
        change: Change | None = None,
        norms: Norms = Common(),  # noqa: B008 (frozen)
        middle_attention: bool = True,
        embedding: Features | None = None,
        resampler: Resampler | None = None,
    ) -> None:
        super().__init__()
        check_shape(shape, width, multipliers, blocks, attention_levels, num_classes)
        if head_channels < 1 or outputs < 1 or (heads is not None and heads < 1):
            raise ValueError(
                f"head_channels={head_channels}, heads={heads}, outputs={outputs}: all must be at least 1"
            )
        self.resampler = resampler = CentredBox() if resampler is None else resampler
        self.embedding = CosinePositional(width) if embedding is None else embedding
        self.embed = nn.Sequential(
            linear(self.embedding.features, 4 * width), nn.SiLU(), linear(4 * width, 4 * width)
        )
        self.classes = nn.Embedding(num_classes + 1, 4 * width) if num_classes else None
        options: dict[str, Any] = {"embedding": 4 * width, "dropout": dropout, "norms": norms}
        made = AdaptiveBlock if modulated else AddedBlock

        def attention(channels: int, normalise: nn.Module) -> nn.Module:
            if heads is not None and channels % heads:
                raise ValueError(f"{channels} channels cannot be shared evenly by heads={heads}")
            most = head_channels if heads is None else channels // heads
            return HeadedAttention(channels, most, normalise)

        def attend(level: int, channels: int) -> nn.Module:
            if level not in attention_levels:
                return nn.Identity()
            return attention(channels, norms.attention(channels))

        def halve(channels: int) -> nn.Module:
            if change is not None:
                return change.down(channels, resampler)
            return made(channels, channels, resample=resampler.down, **options)

        def double(channels: int) -> nn.Module:
            if change is not None:
                return change.up(channels, resampler)
            return made(channels, channels, resample=resampler.up, **options)

        self.stem = convolution(shape[0], width)
        self.down = nn.ModuleList()
        channels, skips = width, [width]
        for level, multiplier in enumerate(multipliers):
            if level > 0:
                self.down.append(Stage(halve(channels)))
                skips.append(channels)
            for _ in range(blocks):
                block = made(channels, width * multiplier, **options)
                channels = width * multiplier
                self.down.append(Stage(block, attend(level, channels)))
                skips.append(channels)

        def middle() -> nn.Module | None:
            return attention(channels, norms.middle(channels)) if middle_attention else None

        self.middle = nn.ModuleList(
            [
                Stage(made(channels, channels, **options), middle()),
                Stage(made(channels, channels, **options)),
            ]
        )
        self.up = nn.ModuleList()
        for level, multiplier in reversed(list(enumerate(multipliers))):
            for index in range(blocks + 1):
                block = made(channels + skips.pop(), width * multiplier, **options)
                channels = width * multiplier
                ascend = level > 0 and index == blocks
                finer = [double(channels)] if ascend else []
                self.up.append(Stage(block, attend(level, channels), *finer))
        self.norm = norms.block(channels)
        self.out = convolution(channels, outputs * shape[0], zero=True)

    def forward(self, x: Tensor, c_noise: Tensor, *, label: Tensor | None = None) -> Tensor:
        """Apply the network.

        Arguments:
            x: images with shape (B, C, H, W).
            c_noise: noise labels with shape (B,).
            label: classes with shape (B,); None stands for the null class.

        Returns:
            (B, outputs * C, H, W).
        """
        embedding = F.silu(with_class(self.embed(self.embedding(c_noise)), self.classes, label))
        h = self.stem(x)
        skips = [h]
        for stage in self.down:
            h = stage(h, embedding)
            skips.append(h)
        for stage in self.middle:
            h = stage(h, embedding)
        for stage in self.up:
            h = stage(torch.cat([h, skips.pop()], dim=1), embedding)
        out: Tensor = self.out(F.silu(self.norm(h)))
        return out


class Stage(nn.Module):
    """A residual block, attention after it or not, and perhaps a block that changes the resolution."""

    def __init__(self, block: nn.Module, attention: nn.Module | None = None, *finer: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.attention = nn.Identity() if attention is None else attention
        self.finer = nn.ModuleList(finer)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """One after the other."""
        x = self.attention(self.block(x, embedding))
        for block in self.finer:
            x = block(x, embedding)
        return x


class AdaptiveBlock(nn.Module):
    """A residual block whose second normalisation is scaled and shifted by the embedding.

    Source: Dhariwal and Nichol, 2021, arXiv:2105.05233, section 3.1 (adaptive group normalisation).

    Arguments:
        inputs: input channels.
        outputs: output channels.
        embedding: features of the embedding.
        dropout: dropout rate.
        norms: rule of the normalisations.
        resample: change of the resolution of both branches.
    """

    embedded: ClassVar[int] = 2

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        embedding: int,
        dropout: float,
        norms: Norms = Common(),  # noqa: B008 (frozen)
        resample: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.norm_in = norms.block(inputs)
        self.conv_in = convolution(inputs, outputs)
        self.embed = linear(embedding, self.embedded * outputs)
        self.norm_out = norms.block(outputs)
        self.dropout = Dropout(dropout)
        self.conv_out = convolution(outputs, outputs, zero=True)
        self.skip: nn.Module = nn.Identity() if inputs == outputs else convolution(inputs, outputs, 1)
        self.resample = resample

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Apply the block to x (B, inputs, H, W) and the embedding (B, embedding)."""
        h = F.silu(self.norm_in(x))
        if self.resample is not None:
            x, h = self.resample(x), self.resample(h)
        h = F.silu(self.condition(self.conv_in(h), self.embed(embedding).unflatten(1, (-1, 1, 1))))
        out: Tensor = self.skip(x) + self.conv_out(self.dropout(h))
        return out

    def condition(self, h: Tensor, embedding: Tensor) -> Tensor:
        """Normalise, scale and shift."""
        scale, shift = embedding.chunk(2, dim=1)
        out: Tensor = self.norm_out(h) * (1 + scale) + shift
        return out


class AddedBlock(AdaptiveBlock):
    """A residual block to which the embedding is added before the second normalisation.

    Source: Ho et al., 2020, arXiv:2006.11239, appendix B.
    """

    embedded: ClassVar[int] = 1

    def condition(self, h: Tensor, embedding: Tensor) -> Tensor:
        """Add and normalise."""
        out: Tensor = self.norm_out(h + embedding)
        return out


class Heads(nn.Module):
    """What attention over the pixels with several heads is made of, its normalisation aside.

    Source: Vaswani et al., 2017, arXiv:1706.03762, section 3.2.2.

    Arguments:
        norm: the normalisation before it.
        channels: channels of the feature map.
        heads: number of heads, which divides the channels.
        dropout: dropout rate of the weights of the values.
    """

    def __init__(self, norm: nn.Module, channels: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.norm = norm
        self.qkv = convolution(channels, 3 * channels, 1)
        self.dropout = Dropout(dropout)
        self.out = convolution(channels, channels, 1, zero=True)

    def mix(self, h: Tensor) -> Tensor:
        """Attend: normalised features (B, C, H, W) to what is added to those before."""
        query, key, value = self.qkv(h).unflatten(1, (3, self.heads, -1)).flatten(4).unbind(1)
        weight = torch.softmax(query.transpose(2, 3) @ key * query.shape[2] ** -0.5, dim=3)
        out: Tensor = self.out((value @ self.dropout(weight).transpose(2, 3)).reshape(h.shape))
        return out


class HeadedAttention(Heads):
    """Self-attention over the pixels with several heads.

    Arguments:
        channels: channels of the feature map.
        head_channels: channels of a head, at most.
        normalise: the normalisation before it, None for that of ADM.
    """

    def __init__(self, channels: int, head_channels: int, normalise: nn.Module | None = None) -> None:
        heads = next(
            n for n in range(1, channels + 1) if channels % n == 0 and channels // n <= head_channels
        )
        super().__init__(Common().block(channels) if normalise is None else normalise, channels, heads)

    def forward(self, x: Tensor) -> Tensor:
        """Attend: (B, C, H, W) to the same."""
        out: Tensor = x + self.mix(self.norm(x))
        return out
