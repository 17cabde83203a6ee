"""Stages of a U-Net: their channels, and the skip connections between encoder and decoder."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class StageChannels(NamedTuple):
    """Channels of a residual block.

    Arguments:
        level: its level, 0 being the finest.
        inputs: input channels.
        outputs: output channels.
        last: True for the last block of its level.
    """

    level: int
    inputs: int
    outputs: int
    last: bool


def encoder_stages(width: int, widths: Sequence[int], blocks: int) -> Iterator[StageChannels]:
    """Iterate over the residual blocks of an encoder, fine to coarse.

    Arguments:
        width: channels of the stem.
        widths: channels of every level, fine to coarse.
        blocks: residual blocks a level.
    """
    channels = width
    for level, outputs in enumerate(widths):
        for index in range(blocks):
            yield StageChannels(level, channels, outputs, index == blocks - 1)
            channels = outputs


def decoder_stages(width: int, widths: Sequence[int], blocks: int) -> Iterator[StageChannels]:
    """Iterate over the residual blocks of a decoder, coarse to fine: one a level more than in the encoder.

    Their inputs are the outputs of the stage before and those of a stage of the encoder: the stem, every residual
    block, and every change of resolution.

    Arguments:
        width: channels of the stem.
        widths: channels of every level, fine to coarse.
        blocks: residual blocks a level of the encoder.
    """
    skips = [width]
    for level, outputs in enumerate(widths):
        skips += [outputs] * (blocks if level == len(widths) - 1 else blocks + 1)
    channels = widths[-1]
    for level, outputs in reversed(list(enumerate(widths))):
        for index in range(blocks + 1):
            yield StageChannels(level, channels + skips.pop(), outputs, index == blocks)
            channels = outputs


def apply_stages(
    h: Tensor, down: Iterable[nn.Module], middle: Iterable[nn.Module], up: Iterable[nn.Module], *given: Any
) -> Tensor:
    """Apply the stages of a U-Net, each called with features and ``given``.

    Arguments:
        h: features of the stem with shape (B, C, *sides).
        down: stages of the encoder, whose outputs are appended to the inputs of the decoder.
        middle: stages at the coarsest level.
        up: stages of the decoder, one more than those of the encoder.
        given: further arguments of every stage, such as the embedding.
    """
    skips, h = apply_encoder(h, down, middle, *given)
    return apply_decoder(h, skips, up, *given)


def apply_encoder(
    h: Tensor, down: Iterable[nn.Module], middle: Iterable[nn.Module], *given: Any
) -> tuple[list[Tensor], Tensor]:
    """Apply the stages of an encoder; the features of its skip connections, fine to coarse, and those of the middle."""
    skips = [h]
    for stage in down:
        h = stage(h, *given)
        skips.append(h)
    for stage in middle:
        h = stage(h, *given)
    return skips, h


def apply_decoder(h: Tensor, skips: Sequence[Tensor], up: Iterable[nn.Module], *given: Any) -> Tensor:
    """Apply the stages of a decoder to the features of the middle and those of the skip connections."""
    for stage, skip in zip(up, reversed(skips), strict=True):
        h = stage(torch.cat([h, skip], dim=1), *given)
    return h
