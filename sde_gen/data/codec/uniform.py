"""Integer levels with uniform dequantization."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.data.codec.base import Codec, Levels, constant
from sde_gen.noise import Noise


@dataclass(frozen=True, kw_only=True)
class UniformCodec(Codec):
    r"""Integer levels k in {0, ..., levels - 1}, dequantized uniformly and mapped to an interval.

    .. math::
        y = k + u, \quad u \sim U[0, 1), \qquad
        x = \mathrm{low} + (\mathrm{high} - \mathrm{low}) \frac{y}{\mathrm{levels}}

    Then log P(k) >= E_u[log p(x)] + log_det (Theis et al., 2016, arXiv:1511.01844, section 3.1).

    Arguments:
        levels: number of levels of the data; a property of the data, never assumed.
        low: lower edge of level 0 in model space.
        high: upper edge of the last level.
    """

    levels: Levels
    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if self.levels < 2:
            raise ValueError(
                f"levels={self.levels}: expected the data's number of integer levels, at least 2; "
                "for continuous data use codec=affine"
            )
        if self.levels > 2**20:
            raise ValueError(f"levels={self.levels}: float32 resolves at most 2^20 levels")
        if not self.low < self.high:
            raise ValueError(f"low={self.low}, high={self.high}: expected low < high")

    def encode(self, values: Tensor, noise: Noise | None = None) -> Tensor:
        """Dequantize and scale; without noise, return the centers of the bins."""
        k = values.to(torch.float32)
        if noise is None:
            y = k + 0.5
        else:  # the distribution function of a Gaussian makes it uniform
            edge = self.levels * 2.0**-22  # as close to the next bin as float32 resolves
            y = k + torch.special.ndtr(noise.normal(k)).clamp(edge, 1 - edge)
        return self.low + (self.high - self.low) / self.levels * y

    def decode(self, x: Tensor) -> Tensor:
        """Return the level whose bin contains x, int64; values outside the interval are clamped."""
        y = (x - self.low) * (self.levels / (self.high - self.low))
        return torch.floor(y).clamp(0, self.levels - 1).long()

    def decode_unrounded(self, x: Tensor) -> Tensor:
        """Map the interval to [0, levels - 1], its ends on the ends; values outside it are clamped."""
        return (x.clamp(self.low, self.high) - self.low) * ((self.levels - 1) / (self.high - self.low))

    def decode_image(self, x: Tensor) -> Tensor:
        """Return the levels scaled to 0..255, uint8."""
        return torch.round(self.decode(x) * (255 / (self.levels - 1))).to(torch.uint8)

    def log_det(self, x: Tensor) -> Tensor:
        """Return D log((high - low) / levels) in nats, everywhere."""
        return constant(x, math.prod(x.shape[1:]) * math.log((self.high - self.low) / self.levels))

    @property
    def limits(self) -> tuple[float, float]:
        """Interval of the model space, (low, high)."""
        return self.low, self.high

    def bins(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the edges of equal bins on [low, high]; the outermost edges are infinite."""
        k, width = self.decode(x), (self.high - self.low) / self.levels
        low, high = self.low + width * k.double(), self.low + width * (k.double() + 1)
        return (
            torch.where(k == 0, -math.inf, low),
            torch.where(k == self.levels - 1, math.inf, high),
        )

    def middles(self) -> Tensor:
        """Return the centers of the bins."""
        width = (self.high - self.low) / self.levels
        return self.low + width * (torch.arange(self.levels, dtype=torch.float64) + 0.5)
