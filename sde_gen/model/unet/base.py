"""U-Net shared by NCSN++ and DDPM++."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sde_gen.model.activation import Activation, ActivationLayer
from sde_gen.model.adm.level_resample import LevelResample, ResBlockResample
from sde_gen.model.conditional import NO_CONDITIONS, Conditions, EmbeddedNetwork
from sde_gen.model.embedding import Fourier, InputFeatures, Positional
from sde_gen.model.norms import GroupNormRule, QuarterGroups
from sde_gen.model.text.encoder import TextFeatures
from sde_gen.model.unet.blocks import AttentionBlock, ResBlock, convolution_of, linear
from sde_gen.model.unet.progressive import ProgressiveInput, ProgressiveOutput
from sde_gen.model.unet.resample import Resampler


class UNet(EmbeddedNetwork):
    """A U-Net of residual and attention blocks, conditioned on a noise label and optionally on a class.

    Source: Song et al., 2021, arXiv:2011.13456, appendix H.

    Arguments:
        shape: event shape (C, *sides) of one to three axes; sides must be divisible by 2^(levels - 1).
        width: channels of the finest level.
        multipliers: channels of every level, fine to coarse, in units of width.
        blocks: residual blocks a level.
        attention_levels: levels with attention, 0 being the finest (16x16 of a 32x32 image is level 1).
        dropout: dropout rate.
        num_classes: number of classes, 0 for none; a further null class stands for "no label given".
        input_frequencies: sin and cos of 2^n pi x are given to the network beside x, for these n.
        embedding: features of the noise label.
        resampler: the change of resolution, of any number of axes.
        progressive_input: input of the image at coarser levels.
        progressive_output: class that forms the output image from the levels.
        change: module that changes the resolution between levels.
        scale: factor of every sum of two branches.
        embedding_multiplier: features of the embedding of noise label and class, in units of width.
        norms: rule of the normalizations.
        activation: activation of the blocks and of the noise embedding.
        inputs: sizes of the conditions besides the class.

    Raises:
        ValueError: an impossible shape or setting; the message lists valid ones.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        width: int,
        multipliers: Sequence[float],
        blocks: int,
        attention_levels: Sequence[int],
        dropout: float,
        num_classes: int,
        input_frequencies: Sequence[int],
        embedding: Fourier | Positional,
        resampler: Resampler,
        progressive_input: ProgressiveInput,
        progressive_output: Callable[
            [int, list[int], Resampler, float, GroupNormRule, Activation], ProgressiveOutput
        ],
        change: LevelResample = ResBlockResample(),  # noqa: B008 (frozen)
        scale: float = 0.5**0.5,
        embedding_multiplier: int = 4,
        norms: GroupNormRule = QuarterGroups(),  # noqa: B008 (frozen)
        activation: Activation = F.silu,
        inputs: Conditions = NO_CONDITIONS,
    ) -> None:
        super().__init__()
        widths = check_shape(shape, width, multipliers, blocks, attention_levels, num_classes, RANKS)
        if embedding_multiplier < 1 or not scale > 0:
            raise ValueError(
                f"embedding_multiplier={embedding_multiplier}, scale={scale}: "
                "expected at least 1, and a positive number"
            )
        image, levels, hidden = shape[0], len(multipliers), embedding_multiplier * width
        rank = len(shape) - 1
        resampler = resampler.along(rank)
        self.embedding = embedding
        self.embed = nn.Sequential(
            linear(embedding.features, hidden),
            ActivationLayer(activation),
            linear(hidden, hidden),
        )
        self.add_conditions(hidden, num_classes, inputs)
        options: dict[str, Any] = {
            "embedding": hidden,
            "dropout": dropout,
            "scale": scale,
            "norms": norms,
        }
        options["activation"] = self.activation = activation

        def attend(level: int, channels: int) -> nn.Module:
            if level not in attention_levels:
                return nn.Identity()
            return AttentionBlock(channels, scale=scale, normalize=norms.attention(channels), rank=rank)

        def block(inward: int, outward: int, norm_in: nn.GroupNorm | None = None) -> ResBlock:
            return ResBlock(inward, outward, norm_in=norm_in, rank=rank, **options)

        self.features = InputFeatures(input_frequencies)
        self.stem = convolution_of(rank, image * self.features.factor + inputs.image, width)
        self.down_blocks, self.down_attention = nn.ModuleList(), nn.ModuleList()
        self.descend, self.inputs = nn.ModuleList(), nn.ModuleList()
        channels, pyramid, skips = width, image, [width]
        for level, outward in enumerate(widths):
            for _ in range(blocks):
                self.down_blocks.append(block(channels, outward))
                channels = outward
                self.down_attention.append(attend(level, channels))
                skips.append(channels)
            if level < levels - 1:
                self.descend.append(change.down(channels, resampler, **options))
                self.inputs.append(progressive_input.level(image, pyramid, channels, resampler, scale))
                channels *= progressive_input.widening
                pyramid = channels
                skips.append(channels)

        self.middle_in = block(channels, channels)
        self.middle_attention = AttentionBlock(
            channels, scale=scale, normalize=norms.block(channels), rank=rank
        )
        self.middle_out = block(channels, channels)

        self.up_blocks, self.up_attention, self.ascend = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for level, outward in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                joined = channels + skips.pop()
                norm_in = norms.joined(joined, attended=level in attention_levels)
                self.up_blocks.append(block(joined, outward, norm_in))
                channels = outward
            self.up_attention.append(attend(level, channels))
            if level > 0:
                self.ascend.append(change.up(channels, resampler, **options))
        self.output = progressive_output(image, widths[::-1], resampler, scale, norms, activation)
        self.blocks = blocks

    def activate(self, embedding: Tensor) -> Tensor:
        """Apply the activation of the blocks."""
        return self.activation(embedding)

    def apply_blocks(
        self, x: Tensor, image: Tensor | None, embedding: Tensor, text: TextFeatures | None
    ) -> Tensor:
        """Apply encoder and decoder; the text is part of the embedding."""
        del text
        h = self.stem(self.with_image(self.features(x), image))
        pyramid, skips = x, [h]
        for level in range(len(self.descend) + 1):
            for index in range(level * self.blocks, (level + 1) * self.blocks):
                h = self.down_attention[index](self.down_blocks[index](h, embedding))
                skips.append(h)
            if level < len(self.descend):
                pyramid, h = self.inputs[level](pyramid, self.descend[level](h, embedding))
                skips.append(h)
        h = self.middle_out(self.middle_attention(self.middle_in(h, embedding)), embedding)
        out: Tensor | None = None
        for level in range(len(self.ascend) + 1):
            for index in range(level * (self.blocks + 1), (level + 1) * (self.blocks + 1)):
                h = self.up_blocks[index](torch.cat([h, skips.pop()], dim=1), embedding)
            h = self.up_attention[level](h)
            out, h = self.output.level(level, out, h)
            if level < len(self.ascend):
                h = self.ascend[level](h, embedding)
        return self.output.finish(out, h)


def with_augmentation(features: Tensor, augmentation: nn.Linear | None, augment: Tensor | None) -> Tensor:
    """Add the embedding of augmentation labels (B, A) to the features of the noise label (B, E).

    Raises:
        ValueError: augmentation labels were given to a network without augmentations.
    """
    if augment is None:
        return features
    if augmentation is None:
        raise ValueError("augment was given to a network without augmentations")
    out: Tensor = features + augmentation(augment.to(features.dtype))
    return out


RANKS = (1, 2, 3)
"""Numbers of axes of sequences, images and volumes."""


def check_shape(
    shape: Sequence[int],
    width: int,
    multipliers: Sequence[float],
    blocks: int,
    attention_levels: Sequence[int],
    num_classes: int,
    ranks: Collection[int] = (2,),
) -> list[int]:
    """Return the channels of every level; ``ranks`` are the numbers of axes that an event may have.

    Raises:
        ValueError: the sizes define no network.
    """
    levels = len(multipliers)
    if len(shape) - 1 not in ranks:
        raise ValueError(f"shape={tuple(shape)}: {_instead(len(shape) - 1, ranks)}")
    if levels < 1 or min(multipliers) <= 0 or width < 4 or blocks < 1:
        raise ValueError(
            f"width={width}, multipliers={list(multipliers)}, blocks={blocks}: expected a width of at least 4, "
            "at least one level with positive multipliers and at least one block"
        )
    widths = [int(width * multiplier) for multiplier in multipliers]
    if any(channels != width * multiplier for channels, multiplier in zip(widths, multipliers, strict=True)):
        raise ValueError(f"width={width}, multipliers={list(multipliers)}: channels must be whole numbers")
    factor = 2 ** (levels - 1)
    if any(side % factor or side < factor for side in shape[1:]):
        near = sorted(
            {max(factor, side // factor * factor) for side in shape[1:]}
            | {-(-side // factor) * factor for side in shape[1:]}
        )
        raise ValueError(
            f"images of {'x'.join(map(str, shape[1:]))} do not halve {levels - 1} times: sides must be "
            f"multiples of {factor}, such as {' or '.join(map(str, near))}; or give fewer multipliers than "
            f"{list(multipliers)}"
        )
    if any(not 0 <= level < levels for level in attention_levels):
        raise ValueError(f"attention_levels={list(attention_levels)}: there are levels 0 to {levels - 1}")
    if num_classes < 0:
        raise ValueError(f"num_classes={num_classes} must not be negative; 0 means no classes")
    return widths


def _instead(rank: int, ranks: Collection[int]) -> str:
    """Return what a network takes, and what takes an event of a rank that it does not take."""
    if len(ranks) > 1:
        return (
            "a U-Net takes images (C, H, W) and others of one to three axes; for vectors use model=mlp"
            if rank < 1
            else "a U-Net takes events of one to three axes after the channels; join axes to have fewer"
        )
    return "this network takes images (C, H, W) alone"
