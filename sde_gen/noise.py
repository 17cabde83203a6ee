"""Where all randomness enters: a source of Gaussian noise is an object, never global state."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


def sample_seeds(seed: int, count: int) -> list[int]:
    """Make one 64-bit seed per sample from one seed; a larger count only appends."""
    return [int(word) for word in np.random.SeedSequence(seed).generate_state(count, np.uint64)]


class Noise(Protocol):
    """A source of noise for solvers, priors and training."""

    def __call__(self, x: Tensor, u0: float, u1: float) -> Tensor:
        """Draw N(0, I) like x: a Brownian motion's increment over the clock interval from u0 to u1, divided by sqrt|u1 - u0|.

        The solver picks the clock; ours is the time t.
        """
        ...

    def fresh(self, x: Tensor) -> Tensor:
        """Draw N(0, I) like x, independent of the Brownian motion and of every other draw."""
        ...

    def uniform(self, x: Tensor) -> Tensor:
        """Draw one number of [0, 1) per sample: float64 with shape (B,) on the device of x."""
        ...


class IID:
    """Independent noise from one generator: the fastest source; a sample depends on its place in the batch.

    Arguments:
        generator: the stream of random numbers; its device is where the numbers are drawn.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    @classmethod
    def seeded(cls, seed: int, device: torch.device | str = "cpu") -> "IID":
        """Make a source with a generator of its own."""
        return cls(torch.Generator(device).manual_seed(seed))

    def __call__(self, x: Tensor, u0: float, u1: float) -> Tensor:
        """Draw N(0, I) like x; the interval does not matter."""
        del u0, u1
        return self.fresh(x)

    def fresh(self, x: Tensor) -> Tensor:
        """Draw N(0, I) like x."""
        return torch.randn(x.shape, dtype=x.dtype, device=self.generator.device, generator=self.generator).to(x.device)

    def uniform(self, x: Tensor) -> Tensor:
        """Draw one uniform number per sample."""
        device = self.generator.device
        return torch.rand(len(x), dtype=torch.float64, device=device, generator=self.generator).to(x.device)


class PerSample:
    """One stream per sample: the same seed gives the same sample at any batch size, order and device.

    Arguments:
        seeds: one seed per sample of the batches that will be asked for.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, x: Tensor, u0: float, u1: float) -> Tensor:
        """Draw N(0, I) like x; the interval does not matter."""
        del u0, u1
        return self.fresh(x)

    def fresh(self, x: Tensor) -> Tensor:
        """Draw N(0, I) like x, row i from stream i."""
        self._check(x)
        rows = [torch.randn(x.shape[1:], dtype=x.dtype, generator=generator) for generator in self.generators]
        return torch.stack(rows).to(x.device)

    def uniform(self, x: Tensor) -> Tensor:
        """Draw one uniform number per sample, number i from stream i."""
        self._check(x)
        rows = [torch.rand((), dtype=torch.float64, generator=generator) for generator in self.generators]
        return torch.stack(rows).to(x.device)

    def _check(self, x: Tensor) -> None:
        if len(x) != len(self.generators):
            raise ValueError(
                f"PerSample has {len(self.generators)} seeds but the batch has {len(x)} samples; "
                "give one seed per sample"
            )
