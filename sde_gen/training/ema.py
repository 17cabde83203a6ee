"""Exponential moving averages of the weights."""

import abc
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sde_gen.utils.arguments import Checked


class EMA(Checked, abc.ABC):
    """Schedule of the decay rate of the average."""

    @abc.abstractmethod
    def decay(self, step: int, images: int, batch_size: int) -> float:
        """Return the decay rate, the factor of the old average.

        Arguments:
            step: number of steps, including this one.
            images: number of images, including this step.
            batch_size: images per step.
        """


@dataclass(frozen=True, kw_only=True)
class WarmupEMA(EMA):
    """Constant decay rate with warm-up: ``min(rate, (1 + step) / (10 + step))``.

    Source: Song et al., 2021, arXiv:2011.13456 (code of score_sde).

    Arguments:
        rate: decay rate after the warm-up.
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
    """Half-life in images, independent of the batch size.

    Source: Karras et al., 2022, arXiv:2206.00364, appendix F.2 (500,000 images, ramp 5 %).

    Arguments:
        images: half-life in images.
        ramp: maximum half-life as a fraction of the images seen.
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
    """In-place update of the EMA weights of a network; frozen parameters are left as they are.

    Arguments:
        ema_model: a copy of the network.
        net: the network.
    """

    def __init__(self, ema_model: nn.Module, net: nn.Module) -> None:
        pairs = [
            pair
            for pair in zip(ema_model.parameters(), net.parameters(), strict=True)
            if pair[1].requires_grad
        ]
        self.target: list[Tensor] = [target for target, _ in pairs]  # listed once: it takes time
        self.source: list[Tensor] = [source for _, source in pairs]
        self.buffers = list(ema_model.buffers()), list(net.buffers())

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """Update the parameters as ``decay * ema + (1 - decay) * new``; copy buffers."""
        torch._foreach_lerp_(self.target, self.source, 1 - decay)
        if self.buffers[0]:
            torch._foreach_copy_(*self.buffers)
