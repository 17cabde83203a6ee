"""Trainable branch of a ControlNet: the encoder of a U-Net that sees an image, and zero convolutions."""

import copy
import itertools
from collections.abc import Sequence
from typing import Protocol, TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

from sde_gen.model.unet.blocks import convolution
from sde_gen.model.unet.encoder_features import Encoded, Residuals

Net = TypeVar("Net", bound=nn.Module)

DECODER = ("up", "norm", "out")
"""Parts of the decoder of a U-Net."""


class SplitUNet(Protocol):
    """A U-Net whose encoder and decoder can be called one after the other.

    Attributes:
        channels: channels of every skip connection, fine to coarse; the last are those of the middle, too.
    """

    channels: list[int]

    def encode(
        self, x: Tensor, c_noise: Tensor, *, added: Tensor | None = None, **conditions: Tensor | None
    ) -> Encoded:
        """Apply embeddings, encoder and middle; ``added`` is added after the first convolution."""

    def decode(self, encoded: Encoded) -> Tensor:
        """Apply the decoder."""


class HintEmbedding(nn.Sequential):
    """Convolutions of a hint, the image that controls, to features of the finest level of a U-Net.

    Source: Zhang et al., 2023, arXiv:2302.05543, section 3.2; in this form the code of diffusers' ControlNetModel.

    Arguments:
        channels: channels of the hint.
        widths: channels of the layers.
        features: channels of the result.
        stride: 2 if the resolution is halved after every width but the last, 1 if it is kept.

    Raises:
        ValueError: a size is not positive, or the stride is another one.
    """

    def __init__(self, channels: int, widths: Sequence[int], features: int, stride: int) -> None:
        if not widths or min(channels, *widths) < 1 or stride not in (1, 2):
            raise ValueError(
                f"channels={channels}, widths={list(widths)}, stride={stride}: expected positive numbers, and a stride "
                "of 1 or 2"
            )
        layers: list[nn.Module] = [convolution(channels, widths[0]), nn.SiLU()]
        for inputs, outputs in itertools.pairwise(widths):
            layers += [convolution(inputs, inputs), nn.SiLU()]
            layers += [nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1), nn.SiLU()]
        super().__init__(*layers, convolution(widths[-1], features, zero=True))
        self.factor = stride ** (len(widths) - 1)


class ControlBranch(nn.Module):
    """An encoder that sees a hint, and a convolution of 1x1, zero at first, of each of its features.

    Source: Zhang et al., 2023, arXiv:2302.05543, section 3.

    Arguments:
        encoder: the encoder, such as a copy of that of the network to be controlled.
        channels: channels of the hint.
        widths: channels of the layers that embed the hint.
        stride: as of :class:`HintEmbedding`.
        pooled: whether the features are averaged over all pixels, for hints whose layout does not matter.
    """

    def __init__(
        self, *, encoder: SplitUNet, channels: int, widths: Sequence[int], stride: int, pooled: bool
    ) -> None:
        super().__init__()
        features = encoder.channels
        self.hint_channels, self.pooled = channels, pooled
        self.encoder = encoder
        self.hint = HintEmbedding(channels, widths, features[0], stride)
        self.skips = nn.ModuleList(convolution(count, count, 1, zero=True) for count in features)
        self.middle = convolution(features[-1], features[-1], 1, zero=True)

    def forward(self, x: Tensor, c_noise: Tensor, hint: Tensor, **conditions: Tensor | None) -> Residuals:
        """Return what is added to the features of the encoder of the controlled network.

        Arguments:
            x: events with shape (B, C, H, W).
            c_noise: noise labels with shape (B,).
            hint: hints with shape (B, channels, factor H, factor W).
            conditions: the other conditions.

        Raises:
            ValueError: the hint has another shape.
        """
        factor = self.hint.factor
        expected = (self.hint_channels, *(factor * side for side in x.shape[2:]))
        if tuple(hint.shape[1:]) != expected:
            raise ValueError(f"the hint has shape {tuple(hint.shape[1:])}; expected {expected}")
        encoded = self.encoder.encode(x, c_noise, added=self.hint(hint.to(x.dtype)), **conditions)
        pairs = zip(self.skips, encoded.skips, strict=True)
        skips, middle = [layer(skip) for layer, skip in pairs], self.middle(encoded.middle)
        if self.pooled:
            skips = [F.adaptive_avg_pool2d(skip, 1) for skip in skips]
            middle = F.adaptive_avg_pool2d(middle, 1)
        return Residuals(skips, middle)


def copied_encoder(net: Net) -> Net:
    """Copy a U-Net without its decoder, to be trained."""
    parts: dict[int, None] = {id(getattr(net, name)): None for name in DECODER}
    return copy.deepcopy(net, parts).requires_grad_(True)
