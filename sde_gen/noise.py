"""Where all randomness enters: a source of Gaussian noise is an object, never global state."""

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from sde_gen._typing import Shape


def sample_seeds(seed: int, count: int) -> list[int]:
    """Make one 64-bit seed per sample from one seed; a larger count only appends."""
    return [int(word) for word in np.random.SeedSequence(seed).generate_state(count, np.uint64)]


class Noise(Protocol):
    """A source of noise for solvers, priors and training."""

    def __call__(self, x: Tensor, u0: float, u1: float) -> Tensor:
        """Draw N(0, I) like x: a Brownian motion's increment W(u1) - W(u0), divided by sqrt|u1 - u0|.

        The solver picks the clock, from 0 to 1; ours is the time t. Where u1 < u0, as in a step from t
        down to s, the increment over a coarse step is still the sum of those over its parts.
        """
        ...

    def fresh(self, x: Tensor) -> Tensor:
        """Draw N(0, I) like x, independent of the Brownian motion and of every other draw."""
        ...

    def uniform(self, x: Tensor) -> Tensor:
        """Draw one number of [0, 1) per sample: float64 with shape (B,) on the device of x."""
        ...


class IID:
    """Independent noise from one generator, the fastest source: a sample depends on its place in the batch.

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
        device = self.generator.device
        return torch.randn(x.shape, dtype=x.dtype, device=device, generator=self.generator).to(x.device)

    def uniform(self, x: Tensor) -> Tensor:
        """Draw one uniform number per sample."""
        device = self.generator.device
        return torch.rand(len(x), dtype=torch.float64, device=device, generator=self.generator).to(x.device)


class PerSample:
    """One stream per sample: a seed gives the same sample at any batch size, place, precision and device.

    Drawn in float64 on the CPU by counter-based generators, which keep all 64 bits of a seed (the generators
    of PyTorch keep 32: among 80,000 seeds two are then more likely than not the same).

    Arguments:
        seeds: one seed in [0, 2^64) per sample of the batches that will be asked for.

    Raises:
        ValueError: a seed lies outside [0, 2^64), or later a batch has another number of samples.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self.seeds = [int(seed) for seed in seeds]
        self.streams = [_stream(seed) for seed in self.seeds]

    def __call__(self, x: Tensor, u0: float, u1: float) -> Tensor:
        """Draw N(0, I) like x; the interval does not matter."""
        del u0, u1
        return self.fresh(x)

    def fresh(self, x: Tensor) -> Tensor:
        """Draw N(0, I) like x, row i from stream i."""
        self._check(x)
        rows = np.stack([stream.standard_normal(x.shape[1:]) for stream in self.streams])
        return torch.from_numpy(rows).to(x.device, x.dtype)

    def uniform(self, x: Tensor) -> Tensor:
        """Draw one uniform number per sample, number i from stream i."""
        self._check(x)
        return torch.tensor(
            [stream.random() for stream in self.streams], dtype=torch.float64, device=x.device
        )

    def _check(self, x: Tensor) -> None:
        if len(x) != len(self.seeds):
            raise ValueError(
                f"{type(self).__name__} has {len(self.seeds)} seeds but the batch has {len(x)} samples; "
                "give one seed per sample"
            )


class Brownian(PerSample):
    r"""One Brownian path W per sample on the clock [0, 1], a function of seed and time alone.

    Whatever the grid, its number of steps and the order of the questions, a seed stands for the same path,
    so samples of coarse and fine grids can be compared. The path is the sum of Levy's hat functions,

    .. math::
        W(u) = u Z + \sum_{n=0}^{d-1} 2^{-n/2 - 1} h(2^n u - k) Z_{n,k}, \qquad k = \lfloor 2^n u \rfloor,
        \quad h(v) = 1 - |2 v - 1|,

    exact in law at the multiples of :math:`2^{-d}`, to which times are rounded; every :math:`Z_{n,k}` has a
    place of its own in the sample's counter-based stream. Fresh and uniform draws are those of
    :class:`PerSample`.

    A new time costs up to d + 1 draws like x. The last two times are remembered, so a step costs one.

    Source: Levy, 1948; on demand as a tree: Li et al., 2020, arXiv:2001.01328, section 4, which
    interpolates below its tolerance; here times are rounded, so that no increment has too little variance.

    Arguments:
        seeds: one seed in [0, 2^64) per sample of the batches that will be asked for.
        depth: levels d; times closer than :math:`2^{-d}` cannot be told apart.

    Raises:
        ValueError: a seed or depth is out of its range; or later a time lies outside [0, 1], an interval
            is empty, or a batch has another number of samples.
    """

    def __init__(self, seeds: Sequence[int], *, depth: int = 32) -> None:
        super().__init__(seeds)
        if not 1 <= depth <= 52:
            raise ValueError(f"depth={depth} must lie in [1, 52], the bits of a float64 below 1")
        self.depth = depth
        self._remembered: dict[tuple[int, Shape], Tensor] = {}

    def __call__(self, x: Tensor, u0: float, u1: float) -> Tensor:
        """Look up W(u1) - W(u0) with shape (B, *event) and divide it by sqrt|u1 - u0|."""
        self._check(x)
        start, end = self._tick(u0), self._tick(u1)
        if start == end:
            raise ValueError(
                f"no Brownian increment from {u0} to {u1}: times must differ by more than 2^-{self.depth}"
            )
        event = tuple(x.shape[1:])
        ends = {(tick, event): self._path(tick, event) for tick in (start, end)}
        self._remembered = ends
        scale = 1 / math.sqrt(math.ldexp(abs(end - start), -self.depth))
        return (scale * (ends[end, event] - ends[start, event])).to(x.device, x.dtype)

    def _tick(self, u: float) -> int:
        """The time in units of 2^-depth; what rounding puts beyond the ends belongs to them."""
        if not -1e-9 <= u <= 1 + 1e-9:
            raise ValueError(f"the Brownian path runs over the clock [0, 1], asked at {u}")
        return round(math.ldexp(min(max(u, 0.0), 1.0), self.depth))

    def _path(self, tick: int, event: Shape) -> Tensor:
        """W at a tick, float64 on the CPU with shape (B, *event)."""
        known = self._remembered.get((tick, event))
        if known is not None:
            return known
        terms = [
            (math.ldexp(tick, -self.depth), 0, 0)
        ]  # coefficient, level, index; level 0 is the straight line
        for n in range(self.depth):
            width = 1 << (self.depth - n)
            index, rest = divmod(tick, width)
            hat = 1 - abs(2 * rest / width - 1)
            terms.append((2 ** (-n / 2 - 1) * hat, n + 1, index))
        path = np.zeros((len(self.seeds), *event))
        for i, seed in enumerate(self.seeds):
            for coefficient, level, index in terms:
                if coefficient > 0:
                    path[i] += coefficient * _stream(seed, level, index).standard_normal(event)
        return torch.from_numpy(path)


def _stream(seed: int, *place: int) -> np.random.Generator:
    """Make the random numbers of a seed at a place; different places have nothing in common.

    Philox is a function of key and counter: the seed is the key, the place stands in the upper words of
    the counter, of which the draws only ever move the lowest. Source: Salmon et al., 2011, SC '11.
    """
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed={seed} must lie in [0, 2^64); sample_seeds makes such seeds")
    counter = np.zeros(4, dtype=np.uint64)
    if place:
        level, index = place
        counter[1:] = 1, level, index
    return np.random.Generator(np.random.Philox(key=np.array([seed, 0], dtype=np.uint64), counter=counter))
