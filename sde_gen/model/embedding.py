"""Features of the noise label, and of the input."""

import math
from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class NoiseEmbedding(Protocol):
    """Features of the noise label.

    Attributes:
        features: how many.
    """

    features: int

    def __call__(self, c_noise: Tensor) -> Tensor:
        """Features (B, features) of labels (B,)."""


class Fourier(nn.Module):
    """Random Fourier features: sin and cos of 2 pi W c with W ~ N(0, scale^2), fixed.

    Source: Tancik et al., 2020, arXiv:2006.10739; Song et al., 2021, arXiv:2011.13456, appendix H.

    Arguments:
        size: number of frequencies; there are twice as many features.
        scale: standard deviation of the frequencies.
    """

    frequencies: Tensor

    def __init__(self, size: int, scale: float = 16.0) -> None:
        super().__init__()
        self.features = 2 * size
        drawn = torch.randn(size, generator=torch.Generator().manual_seed(0), device="cpu")
        self.register_buffer("frequencies", drawn * scale)

    def forward(self, c_noise: Tensor) -> Tensor:
        """Features with shape (B, 2 size)."""
        angle = 2 * math.pi * c_noise.unsqueeze(1) * self.frequencies.to(c_noise.dtype)
        return torch.cat([angle.sin(), angle.cos()], dim=1)


class VectorFourier(nn.Module):
    """Random Fourier features of a vector: sin and cos of 2 pi W c with W ~ N(0, 1), fixed.

    Source: Tancik et al., 2020, arXiv:2006.10739.

    Arguments:
        inputs: length of the vector.
        size: number of rows of W; there are twice as many features.
    """

    frequencies: Tensor

    def __init__(self, inputs: int, size: int) -> None:
        super().__init__()
        drawn = torch.randn(size, inputs, generator=torch.Generator().manual_seed(0), device="cpu")
        self.register_buffer("frequencies", drawn)

    def forward(self, c: Tensor) -> Tensor:
        """Features of vectors (B, inputs) with shape (B, 2 size)."""
        angle = 2 * math.pi * (c @ self.frequencies.to(c.dtype).T)
        return torch.cat([angle.sin(), angle.cos()], dim=1)


class Positional(nn.Module):
    """Sinusoids of frequencies 1 to 1/10000, as of a position; of an odd number of features the last is zero.

    Source: Vaswani et al., 2017, arXiv:1706.03762; in this order and spacing Ho et al., 2020, arXiv:2006.11239.

    Arguments:
        size: number of features.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        if size < 4:
            raise ValueError(f"a positional embedding of {size} features: expected at least 4")
        self.features = size

    def forward(self, c_noise: Tensor) -> Tensor:
        """Features with shape (B, size)."""
        half = self.features // 2
        exponent = torch.arange(half, dtype=c_noise.dtype, device=c_noise.device) / (half - 1)
        angle = c_noise.unsqueeze(1) * torch.exp(-math.log(10000) * exponent)
        features = torch.cat([angle.sin(), angle.cos()], dim=1)
        return F.pad(features, (0, 1)) if self.features % 2 else features


class CosinePositional(nn.Module):
    """Sinusoids of frequencies 1 to nearly 1/10000, cosines first.

    Source: Vaswani et al., 2017, arXiv:1706.03762; in this order and spacing Dhariwal and Nichol, 2021,
    arXiv:2105.05233 (in their code).

    Arguments:
        size: number of features, even.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        if size % 2:
            raise ValueError(f"a positional embedding of {size} features: expected an even number")
        self.features = size

    def forward(self, c_noise: Tensor) -> Tensor:
        """Features with shape (B, size)."""
        half = self.features // 2
        exponent = torch.arange(half, dtype=c_noise.dtype, device=c_noise.device) / half
        angle = c_noise.unsqueeze(1) * torch.exp(-math.log(10000) * exponent)
        return torch.cat([angle.cos(), angle.sin()], dim=1)


class Sinusoids(nn.Module):
    """Sinusoids of frequencies 10000^(-i / (n - shift)), i < n; of an odd number of features the last is zero.

    With shift 1 the last frequency is 1/10000; with shift 0 they are those of :class:`CosinePositional`.

    Source: Vaswani et al., 2017, arXiv:1706.03762; with these settings von Platen et al., diffusers 0.42, Timesteps.

    Arguments:
        size: number of features.
        shift: subtracted from the number of frequencies.
        cosine_first: whether cosines come before sines.

    Raises:
        ValueError: there are too few features.
    """

    def __init__(self, size: int, *, shift: float = 0.0, cosine_first: bool = True) -> None:
        super().__init__()
        if size < 2 or size // 2 <= shift:
            raise ValueError(
                f"size={size}, shift={shift}: expected more than 2 shift features, and at least 2"
            )
        self.features, self.shift, self.cosine_first = size, shift, cosine_first

    def forward(self, c_noise: Tensor) -> Tensor:
        """Features with shape (B, size)."""
        half = self.features // 2
        exponent = torch.arange(half, dtype=c_noise.dtype, device=c_noise.device) / (half - self.shift)
        angle = c_noise.unsqueeze(1) * torch.exp(-math.log(10000) * exponent)
        parts = (angle.cos(), angle.sin()) if self.cosine_first else (angle.sin(), angle.cos())
        return F.pad(torch.cat(parts, dim=1), (0, self.features % 2))


class LearnedEmbedding(nn.Module):
    """Learned embedding of the steps of a chain, linearly interpolated between steps.

    Source: von Platen et al., diffusers 0.42, UNet2DModel (``learned``), where labels are whole numbers; the line is
    ours.

    Arguments:
        size: number of features.
        steps: number of steps, which are counted from zero.

    Raises:
        ValueError: one of them is not positive.
    """

    def __init__(self, size: int, steps: int) -> None:
        super().__init__()
        if size < 1 or steps < 1:
            raise ValueError(f"size={size}, steps={steps}: both must be at least 1")
        self.features = size
        self.rows = nn.Embedding(steps, size)

    def forward(self, c_noise: Tensor) -> Tensor:
        """Features with shape (B, size)."""
        last = self.rows.num_embeddings - 1
        place = c_noise.clamp(0, last)  # there is nothing beyond the first and the last step
        below = place.floor()
        low, high = self.rows(below.long()), self.rows((below + 1).clamp(max=last).long())
        features: Tensor = low + (place - below).unsqueeze(1).to(low.dtype) * (high - low)
        return features


class InputFeatures(nn.Module):
    """The input with sin and cos of 2^n pi x beside it: fine detail for a network that sees it coarsely.

    They are formed in the precision of x, so that they keep below autocast what bfloat16 would round away:
    it holds x near 1 only to 1/256, a gray level of images on [-1, 1] being 1/128.

    Source: Kingma et al., 2021, arXiv:2107.00630, appendix C (n = 7 and 8).

    Arguments:
        frequencies: the exponents n.
    """

    def __init__(self, frequencies: Sequence[int]) -> None:
        super().__init__()
        self.frequencies = tuple(frequencies)
        self.factor = 1 + 2 * len(self.frequencies)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, *sides) to (B, C * factor, *sides)."""
        angles = [2.0**n * math.pi * x for n in self.frequencies]
        return torch.cat([x, *(angle.sin() for angle in angles), *(angle.cos() for angle in angles)], dim=1)
