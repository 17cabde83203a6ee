"""Continuous data, every number shifted and scaled by itself."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.data.base import Dataset
from sde_gen.data.codec.base import Codec
from sde_gen.noise import Noise
from sde_gen.utils.types import Shape


@dataclass(frozen=True, kw_only=True)
class Standardized(Codec):
    """Continuous vectors: ``x = (y - mean) / std`` with a mean and a standard deviation of every number.

    Arguments:
        mean: mean of every number with shape (D,); None: that of the training split.
        std: standard deviation of every number with shape (D,); None: that of the training split.

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
                    f"mean has {len(self.mean)} numbers, std {len(self.std)}; expected as many as a sample has"
                )
            if min(self.std) <= 0:
                raise ValueError(f"std={min(self.std)} must be positive")

    def fit(self, train: Dataset) -> "Standardized":
        """Compute mean and standard deviation of every number.

        Raises:
            ValueError: the samples are no vectors of continuous numbers, or a number never changes.
        """
        values = train.values
        if len(train.shape) != 1 or train.levels is not None or not isinstance(values, Tensor):
            raise ValueError(
                f"codec=standardized is for vectors of continuous numbers; the data have shape {train.shape} and "
                f"{train.levels} levels: use codec=uniform or codec=affine"
            )
        mean, std = values.double().mean(0), values.double().std(0, unbiased=False)
        fixed = (std <= 0).nonzero().flatten().tolist()
        if fixed and self.std is None:
            raise ValueError(f"number {fixed[0]} of the samples never changes: remove it, or give codec.std")
        return replace(
            self,
            mean=mean.tolist() if self.mean is None else self.mean,
            std=std.tolist() if self.std is None else self.std,
        )

    def encode(self, values: Tensor, noise: Noise | None = None) -> Tensor:
        """Shift and scale in float64; continuous data need no dequantization noise."""
        del noise
        mean, std = self._statistics(values)
        return ((values.double() - mean) / std).to(torch.float32)

    def decode(self, x: Tensor) -> Tensor:
        """Invert the shift and scale."""
        mean, std = self._statistics(x)
        return (x.double() * std + mean).to(x.dtype)

    def decode_image(self, x: Tensor) -> Tensor:
        """Return the values in units of the data, for a scatter plot."""
        return self.decode(x)

    def log_det(self, event: Shape) -> float:
        """Return minus the sum of log(std) in nats."""
        if self.std is None or tuple(event) != (len(self.std),):
            raise ValueError(f"event {tuple(event)}: expected ({0 if self.std is None else len(self.std)},)")
        return -sum(map(math.log, self.std))

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        if self.mean is None or self.std is None:
            raise ValueError("mean and std are not known; give them, or call fit(train)")
        mean, std = (
            torch.tensor([*part], device=like.device, dtype=torch.float64) for part in (self.mean, self.std)
        )
        if like.shape[1:] != mean.shape:
            raise ValueError(
                f"the samples have shape {tuple(like.shape[1:])}; expected ({len(mean)},), as in training"
            )
        return mean, std
