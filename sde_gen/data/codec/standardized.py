"""Continuous data, standardized channel by channel."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.data.base import Dataset
from sde_gen.data.codec.base import Codec, constant
from sde_gen.noise import Noise

BLOCK = 2**20
"""Numbers of a block of samples, in which statistics are computed."""


@dataclass(frozen=True, kw_only=True)
class Standardized(Codec):
    r"""Continuous data with mean 0 and standard deviation 1 in every channel: :math:`x_c = (y_c - m_c) / s_c`.

    The channel is the first axis of an event, such as the variable of a series (C, L) or the number of a vector (C,).
    A run stores m and s of its training split.

    Arguments:
        mean: m with shape (C,); None: that of the training split.
        std: s with shape (C,); None: that of the training split.

    Raises:
        ValueError: mean and std have other lengths, or a std is not positive.
    """

    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None

    learned: ClassVar[tuple[str, ...]] = ("mean", "std")

    def __post_init__(self) -> None:
        if self.mean is not None and self.std is not None:
            if len(self.mean) != len(self.std) or not len(self.mean):
                raise ValueError(
                    f"mean has {len(self.mean)} numbers, std {len(self.std)}; expected one of each a channel"
                )
        if self.std is not None and not min(self.std, default=1) > 0:
            raise ValueError(f"std={min(self.std)} must be positive")

    def fit(self, train: Dataset) -> "Standardized":
        """Compute mean and standard deviation of every channel.

        Raises:
            ValueError: the data have integer levels, or a channel never changes.
        """
        if train.levels is not None:
            raise ValueError(
                f"codec=standardized is for continuous numbers; the data have shape {train.shape} and {train.levels} "
                "levels: use codec=uniform or codec=affine"
            )
        mean, std = statistics(train)
        fixed = (std <= 0).nonzero().flatten().tolist()
        if fixed and self.std is None:
            what = "number" if len(train.shape) == 1 else "channel"
            raise ValueError(f"{what} {fixed[0]} of the samples never changes: remove it, or give codec.std")
        return replace(
            self,
            mean=mean.tolist() if self.mean is None else self.mean,
            std=std.tolist() if self.std is None else self.std,
        )

    def encode(self, values: Tensor, noise: Noise | None = None) -> Tensor:
        """Standardize; continuous data need no dequantization noise."""
        del noise
        mean, std = self._along(values)
        return ((values.double() - mean) / std).float()

    def decode(self, x: Tensor) -> Tensor:
        """Return to the units of the data, in float32 or finer."""
        mean, std = self._along(x)
        return (x.double() * std + mean).to(x.dtype)

    def decode_image(self, x: Tensor) -> Tensor:
        """Return the values in units of the data, for a plot."""
        return self.decode(x)

    def log_det(self, x: Tensor) -> Tensor:
        """Return minus the sum of log s over all numbers of an event, in nats, everywhere."""
        self._along(x)  # checks the shape
        _, std = self._known()
        return constant(x, -math.prod(x.shape[2:]) * sum(math.log(deviation) for deviation in std))

    def _along(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and std, float64, broadcast along the channels of a batch."""
        mean, std = self._known()
        if values.ndim < 2 or values.shape[1] != len(mean):
            expected = (len(mean), *values.shape[2:])
            raise ValueError(
                f"the samples have shape {tuple(values.shape[1:])}; expected {expected}, as in training"
            )
        shape = (len(mean), *[1] * (values.ndim - 2))
        mean_, std_ = (
            torch.tensor([*part], dtype=torch.float64, device=values.device).view(shape)
            for part in (mean, std)
        )
        return mean_, std_

    def _known(self) -> tuple[Sequence[float], Sequence[float]]:
        if self.mean is None or self.std is None:
            raise ValueError("mean and std are not known; give them, or call fit(train)")
        return self.mean, self.std


def statistics(train: Dataset) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of every channel, float64 with shape (C,), in two passes over the rows."""
    count = len(train) * math.prod(train.shape[1:])
    mean = sum((_per_channel(block).sum(1) for block in _blocks(train)), torch.zeros(())) / count
    squares = ((_per_channel(block) - mean[:, None]).square().sum(1) for block in _blocks(train))
    return mean, (sum(squares, torch.zeros(())) / count).sqrt()


def _blocks(train: Dataset) -> Iterator[Tensor]:
    rows = max(1, BLOCK // math.prod(train.shape))
    for first in range(0, len(train), rows):
        yield train.values[first : first + rows]


def _per_channel(block: Tensor) -> Tensor:
    return block.double().transpose(0, 1).flatten(1)
