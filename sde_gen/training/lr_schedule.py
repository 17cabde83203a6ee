"""Learning rate schedules: linear warm-up, then constant, linear or cosine decay."""

import abc
import math
import warnings
from dataclasses import dataclass

from sde_gen.utils.arguments import Checked


@dataclass(frozen=True, kw_only=True)
class LRSchedule(Checked, abc.ABC):
    """Factor of the learning rate, with linear warm-up.

    Arguments:
        warmup: images over which the factor rises from zero.
    """

    warmup: int = 10_000

    def __post_init__(self) -> None:
        if self.warmup < 0:
            raise ValueError(f"warmup={self.warmup} must not be negative")

    def __call__(self, images: int, budget: int) -> float:
        """Return the factor after ``images`` of ``budget`` images, including this step."""
        return min(1.0, images / self.warmup if self.warmup else 1.0) * self.decay(images / budget)

    def check(self, budget: int) -> None:
        """Warn if the warm-up is longer than a training of ``budget`` images."""
        if self.warmup > budget:
            warnings.warn(
                f"the warm-up of {self.warmup:,} images is longer than the training of {budget:,}: the learning "
                f"rate reaches only {budget / self.warmup:.2g} of its value; give a smaller "
                "lr_schedule.warmup, or a larger engine.images",
                stacklevel=3,
            )

    @abc.abstractmethod
    def decay(self, progress: float) -> float:
        """Return the factor at the fraction ``progress`` of the training."""


@dataclass(frozen=True, kw_only=True)
class ConstantLR(LRSchedule):
    """Constant learning rate after the warm-up."""

    def decay(self, progress: float) -> float:
        """Return 1."""
        del progress
        return 1.0


@dataclass(frozen=True, kw_only=True)
class LinearLR(LRSchedule):
    """Constant learning rate, then linear decay to zero.

    Arguments:
        share: final fraction of the training with decay.
    """

    share: float = 0.4

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.share <= 1:
            raise ValueError(f"share={self.share} must lie in (0, 1]")

    def decay(self, progress: float) -> float:
        """Return the remaining fraction of the training over ``share``, at most 1."""
        return max(0.0, min(1.0, (1 - progress) / self.share))


@dataclass(frozen=True, kw_only=True)
class CosineLR(LRSchedule):
    """Cosine decay to zero (Loshchilov and Hutter, 2017, arXiv:1608.03983)."""

    def decay(self, progress: float) -> float:
        """Return (1 + cos(pi progress)) / 2."""
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
