"""Residual and attention blocks of the U-Nets."""

import math
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sde_gen.model.activation import Activation
from sde_gen.model.norms import GroupNormRule, QuarterGroups, norm
from sde_gen.model.unet.axes import KINDS, Convolution
from sde_gen.model.unet.resample import Resampler

Layer = TypeVar("Layer", bound=nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear)


def convolution(inputs: int, outputs: int, size: int = 3, *, zero: bool = False) -> nn.Conv2d:
    """Build a convolution of images that keeps the resolution; Glorot-uniform weights, or zeros."""
    return initialize(nn.Conv2d(inputs, outputs, size, padding=size // 2), zero=zero)


def convolution_of(
    rank: int, inputs: int, outputs: int, size: int = 3, *, stride: int = 1, zero: bool = False
) -> Convolution:
    """Build a convolution along ``rank`` axes, padded on all sides; Glorot-uniform weights, or zeros."""
    layer = KINDS[rank - 1](inputs, outputs, size, stride=stride, padding=size // 2)
    return initialize(layer, zero=zero)


def linear(inputs: int, outputs: int, *, zero: bool = False) -> nn.Linear:
    """Build a dense layer; Glorot-uniform weights, or zeros."""
    return initialize(nn.Linear(inputs, outputs), zero=zero)


def initialize(layer: Layer, *, zero: bool) -> Layer:
    """Set the weights as Ho et al., 2020, arXiv:2006.11239, did; a layer without bias stays so."""
    if zero:
        nn.init.zeros_(layer.weight)
    else:
        nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class Dropout(nn.Module):
    """Dropout whose mask costs an eighth of the usual random numbers.

    One 64-bit draw gives the bytes of eight mask elements, so the rate is rounded to a multiple of 1/256
    between 1/256 and 255/256.

    Arguments:
        rate: probability of a zero.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"dropout={rate} must lie in [0, 1)")
        self.threshold = min(max(round(rate * 256), 1), 255) if rate > 0 else 0

    def forward(self, x: Tensor) -> Tensor:
        """Zero elements at random in training, and scale the others up."""
        if not self.training or self.threshold == 0:
            return x
        words = torch.empty(math.ceil(x.numel() / 8), dtype=torch.int64, device=x.device)
        words.random_(-(2**63), None)
        keep = words.view(torch.uint8)[: x.numel()] >= self.threshold
        # the scale comes last: in a bfloat16 mask it would be off by as much as 0.4 %, always to the same side
        return x * _laid_out_like(x, keep) * (256 / (256 - self.threshold))


def _laid_out_like(x: Tensor, flat: Tensor) -> Tensor:
    """View x.numel() elements in the shape and memory order of x: reading two orders at once is slow."""
    order = sorted(range(x.ndim), key=x.stride, reverse=True)
    return flat.view([x.shape[dim] for dim in order]).permute([order.index(dim) for dim in range(x.ndim)])


class ResBlock(nn.Module):
    """The residual block of BigGAN with a noise embedding, optionally changing the resolution.

    Source: Brock et al., 2019, arXiv:1809.11096; as in Song et al., 2021, arXiv:2011.13456, appendix H.

    Arguments:
        inputs: input channels.
        outputs: output channels.
        embedding: features of the noise embedding.
        dropout: dropout rate.
        scale: factor of the sum of the two branches.
        norms: rule of the normalizations.
        norm_in: first normalization; None takes the rule's.
        activation: activation of the blocks.
        rank: number of axes of the features: 1, 2 or 3.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        embedding: int,
        dropout: float,
        scale: float,
        norms: GroupNormRule = QuarterGroups(),  # noqa: B008 (frozen)
        norm_in: nn.GroupNorm | None = None,
        activation: Activation = F.silu,
        rank: int = 2,
    ) -> None:
        super().__init__()
        self.norm_in = norms.block(inputs) if norm_in is None else norm_in
        self.conv_in = convolution_of(rank, inputs, outputs)
        self.embed = linear(embedding, outputs)
        self.norm_out = norms.block(outputs)
        self.dropout = Dropout(dropout)
        self.conv_out = convolution_of(rank, outputs, outputs, zero=True)
        self.skip: nn.Module = (
            nn.Identity() if inputs == outputs else convolution_of(rank, inputs, outputs, 1)
        )
        self.scale = scale
        self.activation = activation

    def resample(self, x: Tensor) -> Tensor:
        """Return the features at unchanged resolution."""
        return x

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Apply the block to x (B, inputs, *sides) and the embedding (B, embedding)."""
        h = self.conv_in(self.resample(self.activation(self.norm_in(x))))
        h = self.conv_out(self.dropout(self.activation(self.condition(h, embedding))))
        out: Tensor = (self.skip(self.resample(x)) + h) * self.scale
        return out

    def condition(self, h: Tensor, embedding: Tensor) -> Tensor:
        """Add the embedding (B, embedding) to features (B, outputs, *sides), and normalize."""
        out: Tensor = self.norm_out(h + self.embed(embedding).unflatten(1, (-1, *[1] * (h.ndim - 2))))
        return out


class DownBlock(ResBlock):
    """A residual block that halves the resolution."""

    def __init__(self, channels: int, *, resampler: Resampler, **of_block: Any) -> None:
        super().__init__(channels, channels, rank=resampler.rank, **of_block)
        self.skip = convolution_of(resampler.rank, channels, channels, 1)
        self.resampler = resampler

    def resample(self, x: Tensor) -> Tensor:
        """Halve the resolution."""
        return self.resampler.down(x)


class UpBlock(DownBlock):
    """A residual block that doubles the resolution."""

    def resample(self, x: Tensor) -> Tensor:
        """Double the resolution."""
        return self.resampler.up(x)


class IgnoreEmbedding(nn.Module):
    """A block that ignores the embedding."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Apply the residual block."""
        del embedding
        out: Tensor = self.block(x)
        return out


class AttentionBlock(nn.Module):
    """Self-attention over the pixels.

    Source: Ho et al., 2020, arXiv:2006.11239, appendix B; several heads: Vaswani et al., 2017, arXiv:1706.03762.

    Arguments:
        channels: channels of the feature map.
        scale: factor of the sum of the two branches.
        heads: number of heads, which divides the channels.
        normalize: the normalization before it, None for that of :func:`~sde_gen.model.norm`.
        rank: number of axes of the feature map: 1, 2 or 3.
    """

    def __init__(
        self,
        channels: int,
        *,
        scale: float,
        heads: int = 1,
        normalize: nn.Module | None = None,
        rank: int = 2,
    ) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels cannot be shared evenly by {heads} heads of attention")
        self.norm = norm(channels) if normalize is None else normalize
        self.query = convolution_of(rank, channels, channels, 1)
        self.key = convolution_of(rank, channels, channels, 1)
        self.value = convolution_of(rank, channels, channels, 1)
        self.out = convolution_of(rank, channels, channels, 1, zero=True)
        self.scale = scale
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        """Apply attention to (B, C, *sides)."""
        h = self.norm(x)
        query, key, value = (
            part(h).unflatten(1, (self.heads, -1)).flatten(3) for part in (self.query, self.key, self.value)
        )
        weight = torch.softmax(query.transpose(2, 3) @ key * query.shape[2] ** -0.5, dim=3)
        mixed = (value @ weight.transpose(2, 3)).reshape(x.shape)
        out: Tensor = (x + self.out(mixed)) * self.scale
        return out
