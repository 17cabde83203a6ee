"""Exponential moving averages of the weights."""

import abc
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sde_gen.utils.arguments import Checked


class EMA(Checked, abc.ABC):
    """A rule for the decay of the average at every step."""

    @abc.abstractmethod
    def decay(self, step: int, images: int, batch_size: int) -> float:
        """Return the factor of the old average.

        Arguments:
            step: number of steps done, this one included.
            images: number of images seen, this step's included.
            batch_size: images of a step.
        """


@dataclass(frozen=True, kw_only=True)
class WarmupEMA(EMA):
    """A constant rate with a ramp: ``min(rate, (1 + step) / (10 + step))``.

    Source: the ramp of Song et al., 2021, arXiv:2011.13456 (in their code).

    Arguments:
        rate: the factor of the old average after the ramp.
    """

    rate: float = 0.999

    def __post_init__(self) -> None:
        if not 0 <= self.rate < 1:
            raise ValueError(f"ema rate={self.rate} must lie in [0, 1)")

    def decay(self, step: int, images: int, batch_size: int) -> float:
        """Return the smaller of rate and ramp."""
        del images, batch_size
        return min(self.rate, (1 + step) / (10 + step))


@dataclass(frozen=True, kw_only=True)
class HalfLifeEMA(EMA):
    """A half-life counted in images, so that it does not depend on the batch size.

    Source: Karras et al., 2022, arXiv:2206.00364, appendix F.2 (500,000 images, ramp 5 %).

    Arguments:
        images: images after which half of the old average is left.
        ramp: the half-life is at most this fraction of the images seen.
    """

    images: float = 500_000
    ramp: float = 0.05

    def __post_init__(self) -> None:
        if not (self.images > 0 and self.ramp > 0):
            raise ValueError(f"images={self.images}, ramp={self.ramp}: both must be positive")

    def decay(self, step: int, images: int, batch_size: int) -> float:
        """Return 0.5 to the power of the batch size over the half-life."""
        del step
        return float(0.5 ** (batch_size / min(self.images, self.ramp * images)))


class EMAUpdater:
    """In-place update of the averaged weights of a network.

    Arguments:
        ema_model: a copy of the network.
        net: the network.
    """

    def __init__(self, ema_model: nn.Module, net: nn.Module) -> None:
        self.target: list[Tensor] = list(ema_model.parameters())  # listed once: it takes time
        self.source: list[Tensor] = list(net.parameters())
        self.buffers = list(ema_model.buffers()), list(net.buffers())

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """Multiply the averaged parameters by ``decay`` and add the rest of the new ones; copy buffers."""
        torch._foreach_lerp_(self.target, self.source, 1 - decay)
        if self.buffers[0]:
            torch._foreach_copy_(*self.buffers)
