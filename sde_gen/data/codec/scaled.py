"""Integer levels stored as scaled numbers."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.data.codec.base import Codec, Levels
from sde_gen.data.codec.uniform import UniformCodec
from sde_gen.noise import Noise


@dataclass(frozen=True, kw_only=True)
class Scaled(Codec):
    r"""Levels stored as numbers ``first + k (last - first) / (levels - 1)``, such as pixels k / 255 in [0, 1].

    The levels are recovered and treated as by :class:`UniformCodec`, so bits per dimension are those of the integers,
    whatever the scaling. To treat such numbers as continuous would reward a density for finding the levels.

    Arguments:
        levels: number of levels.
        first: stored value of level 0.
        last: stored value of the last level.
        low: lower edge of level 0 in model space.
        high: upper edge of the last level.

    Raises:
        ValueError: not first < last, or the other arguments are invalid for :class:`UniformCodec`.
    """

    levels: Levels
    first: float = 0.0
    last: float = 1.0
    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not self.first < self.last:
            raise ValueError(f"first={self.first}, last={self.last}: expected first < last")
        self._uniform.__post_init__()

    @property
    def _uniform(self) -> UniformCodec:
        return UniformCodec(levels=self.levels, low=self.low, high=self.high)

    def encode(self, values: Tensor, noise: Noise | None = None) -> Tensor:
        """Recover the levels, dequantize and scale."""
        y = (values.double() - self.first) * ((self.levels - 1) / (self.last - self.first))
        k = torch.round(y)
        worst = float((y - k).abs().max())
        if not (worst < 0.01 and 0 <= float(k.min()) <= float(k.max()) < self.levels):
            raise ValueError(
                f"the numbers from {float(values.min()):.6g} to {float(values.max()):.6g} are not "
                f"{self.levels} levels from {self.first} to {self.last}; check levels, first and last, "
                "or use codec=affine for continuous data"
            )
        return self._uniform.encode(k, noise)

    def decode(self, x: Tensor) -> Tensor:
        """Return the stored value of the level whose bin contains x, float32."""
        step = (self.last - self.first) / (self.levels - 1)
        return (self.first + step * self._uniform.decode(x).double()).float()

    def decode_image(self, x: Tensor) -> Tensor:
        """Return the levels scaled to 0..255, uint8."""
        return self._uniform.decode_image(x)

    def log_det(self, x: Tensor) -> Tensor:
        """Return the log-determinant of the integer levels."""
        return self._uniform.log_det(x)

    @property
    def limits(self) -> tuple[float, float]:
        """Interval of the model space, (low, high)."""
        return self.low, self.high

    def bins(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return those of the integer levels, in model space."""
        return self._uniform.bins(x)

    def middles(self) -> Tensor:
        """Return those of the integer levels, in model space."""
        return self._uniform.middles()
