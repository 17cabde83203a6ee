"""Bounded continuous data on the whole line."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from sde_gen.data.base import Dataset
from sde_gen.data.codec.base import Codec
from sde_gen.data.codec.standardized import Standardized
from sde_gen.noise import Noise
from sde_gen.utils.broadcasting import sum_event


@dataclass(frozen=True, kw_only=True)
class Logit(Codec):
    r"""Numbers between bounds, such as parameters with a uniform prior, as numbers on the whole line.

    .. math::
        z = \log \frac{y - a}{b - y}, \qquad x = \frac{z - m}{s}, \qquad
        \log \frac{dx}{dy} = \log\frac{1}{y - a} + \log\frac{1}{b - y} + \log (b - a) - \log s

    with mean m and standard deviation s of z. Every decoded sample lies between the bounds. A number whose
    bounds are both None is only standardized.

    Source: Papamakarios et al., 2017, arXiv:1705.07057, appendix D, for the logit before a density model.

    Arguments:
        low: lower bound a of every number of a vector, or of every channel, with shape (C,).
        high: upper bound b with shape (C,).
        mean: m with shape (C,); None: that of the training split.
        std: s with shape (C,); None: that of the training split.

    Raises:
        ValueError: the bounds have other lengths, are not low < high, or only one of a pair is None.
    """

    low: Sequence[float | None]
    high: Sequence[float | None]
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None

    learned: ClassVar[tuple[str, ...]] = ("mean", "std")

    def __post_init__(self) -> None:
        if len(self.low) != len(self.high) or not len(self.low):
            raise ValueError(
                f"low has {len(self.low)} numbers, high {len(self.high)}; expected one of each a channel"
            )
        for low, high in zip(self.low, self.high, strict=True):
            if (low is None) != (high is None) or (low is not None and high is not None and not low < high):
                raise ValueError(f"low={low}, high={high}: expected low < high, or null for both")
        self._standardized()

    def fit(self, train: Dataset) -> "Logit":
        """Compute mean and standard deviation of the transformed numbers.

        Raises:
            ValueError: the data have integer levels, a number never changes, or one lies at a bound or beyond.
        """
        if train.levels is not None:
            raise ValueError(
                f"codec=logit is for continuous numbers; the data have shape {train.shape} and {train.levels} levels: "
                "use codec=uniform"
            )
        codec = self._standardized().fit(replace(train, values=self._logit(train.values[:]).float()))
        return replace(self, mean=codec.mean, std=codec.std)

    def encode(self, values: Tensor, noise: Noise | None = None) -> Tensor:
        """Take the logit and standardize; continuous data need no dequantization noise.

        Raises:
            ValueError: a number lies at a bound or beyond.
        """
        return self._standardized().encode(self._logit(values), noise)

    def decode(self, x: Tensor) -> Tensor:
        """Return to the units of the data, strictly between the bounds."""
        z = self._standardized().decode(x.double())
        low, high, bounded = self._bounds(z)
        y = torch.where(bounded, low + (high - low) * torch.sigmoid(z), z).to(x.dtype)
        # a number that rounds to a bound has no logit: take its neighbor inside
        middle = (0.5 * (low + high)).to(y.dtype)
        first, last = (torch.nextafter(end.to(y.dtype), middle) for end in (low, high))
        return torch.where(bounded, y.clamp(first, last), y)

    def decode_image(self, x: Tensor) -> Tensor:
        """Return the values in units of the data, for a plot."""
        return self.decode(x)

    def log_det(self, x: Tensor) -> Tensor:
        """Return the sum of log dx / dy over all numbers, in nats."""
        codec = self._standardized()
        z = codec.decode(x.double())
        low, high, bounded = self._bounds(z)
        slope = -F.logsigmoid(z) - F.logsigmoid(-z) - torch.log(high - low)
        return sum_event(torch.where(bounded, slope, 0.0)) + codec.log_det(x)

    def _logit(self, values: Tensor) -> Tensor:
        y = values.double()
        low, high, bounded = self._bounds(y)
        inside = ~bounded | ((y > low) & (y < high))
        if not bool(inside.all()):
            row, channel = (~inside).nonzero()[0, :2].tolist()
            raise ValueError(
                f"number {channel} of sample {row} does not lie between its bounds {self.low[channel]} and "
                f"{self.high[channel]}: widen codec.low and codec.high"
            )
        return torch.where(bounded, torch.log((y - low).abs()) - torch.log((high - y).abs()), y)

    def _bounds(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return a and b, float64, and where they are finite, broadcast along the channels of a batch; 0 and 1 else."""
        if like.ndim < 2 or like.shape[1] != len(self.low):
            expected = (len(self.low), *like.shape[2:])
            raise ValueError(
                f"the samples have shape {tuple(like.shape[1:])}; expected {expected}, one bound a channel"
            )
        shape = (-1, *[1] * (like.ndim - 2))
        low, high = (
            torch.tensor(
                [end if bound is None else bound for bound in part], dtype=torch.float64, device=like.device
            ).view(shape)
            for part, end in ((self.low, 0.0), (self.high, 1.0))
        )
        bounded = torch.tensor([bound is not None for bound in self.low], device=like.device).view(shape)
        return low, high, bounded

    def _standardized(self) -> Standardized:
        return Standardized(mean=self.mean, std=self.std)
