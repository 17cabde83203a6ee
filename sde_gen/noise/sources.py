"""Explicit sources of Gaussian noise: i.i.d., one stream per sample, or Brownian paths."""

import math
from collections.abc import Sequence
from typing import Annotated, Protocol

import numpy as np
import torch
from torch import Tensor

from sde_gen.noise import brownian, counter_based
from sde_gen.utils.arguments import Checked, checked
from sde_gen.utils.broadcasting import to_device


def spawn_seeds(seed: int, count: int) -> list[int]:
    """Make one 64-bit seed per sample from one seed; a larger count only appends."""
    return [int(word) for word in np.random.SeedSequence(seed).generate_state(count, np.uint64)]


class Noise(Protocol):
    """A source of noise for solvers, priors and training."""

    def __call__(self, x: Tensor, u0: float, u1: float) -> Tensor:
        """Draw N(0, I) like x: a Brownian motion's increment W(u1) - W(u0), divided by sqrt|u1 - u0|.

        The solver chooses the time variable in [0, 1]; here it is the time t. Where u1 < u0, as in a step from t
        down to s, the increment over a coarse step is still the sum of those over its parts.
        """
        ...

    def normal(self, x: Tensor) -> Tensor:
        """Draw N(0, I) like x, independent of the Brownian motion and of every other draw."""
        ...

    def uniform(self, x: Tensor) -> Tensor:
        """Draw one number of [0, 1) per sample: float64 with shape (B,) on the device of x."""
        ...


class NoNoise:
    """Source of deterministic methods; every draw raises ValueError."""

    def __call__(self, x: Tensor, u0: float, u1: float) -> Tensor:
        """Raise ValueError, as all draws do."""
        raise ValueError(MISSING)

    def normal(self, x: Tensor) -> Tensor:
        """Raise ValueError, as all draws do."""
        raise ValueError(MISSING)

    def uniform(self, x: Tensor) -> Tensor:
        """Raise ValueError, as all draws do."""
        raise ValueError(MISSING)


MISSING = "no source of noise was given, but this method draws random numbers; pass noise=IID.seeded(0)"

NO_NOISE = NoNoise()
"""Default of functions that draw noise only for some arguments."""


class IID(Checked):
    """Independent noise from one generator, the fastest source; a sample depends on its position in the batch.

    Arguments:
        generator: the stream of random numbers; its device is where the numbers are drawn.
    """

    def __init__(self, generator: Annotated[torch.Generator, "IID.seeded(0) makes one"]) -> None:
        self.generator = generator

    @classmethod
    @checked
    def seeded(cls, seed: int, device: torch.device | str = "cpu") -> "IID":
        """Make a source with a new generator of this seed."""
        return cls(torch.Generator(device).manual_seed(seed))

    def __call__(self, x: Tensor, u0: float, u1: float) -> Tensor:
        """Draw N(0, I) like x; the interval does not matter."""
        del u0, u1
        return self.normal(x)

    def normal(self, x: Tensor) -> Tensor:
        """Draw N(0, I) like x."""
        device = self.generator.device
        drawn = torch.randn(x.shape, dtype=x.dtype, device=device, generator=self.generator)
        return to_device(drawn, x.device)

    def uniform(self, x: Tensor) -> Tensor:
        """Draw one uniform number per sample."""
        device = self.generator.device
        drawn = torch.rand(len(x), dtype=torch.float64, device=device, generator=self.generator)
        return to_device(drawn, x.device)


class PerSample(Checked):
    """One stream per sample: a seed gives the same sample for any batch size, position, precision and device.

    ImageBatch in float32 on the CPU by a counter-based generator, which keeps all 64 bits of a seed (the generators
    of PyTorch keep 32: among 80,000 seeds two are then more likely than not the same).

    Arguments:
        seeds: one seed in [0, 2^64) per sample of a batch.

    Raises:
        ValueError: a seed lies outside [0, 2^64), or later a batch has another number of samples.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self.seeds = [int(seed) for seed in seeds]
        for seed in self.seeds:
            if not 0 <= seed < 2**64:
                raise ValueError(f"seed={seed} must lie in [0, 2^64); spawn_seeds makes such seeds")
        self._roots = counter_based.derive_keys(
            np.array(self.seeds, dtype=np.uint64), counter_based.as_key(0)
        )
        self._draws = 0

    def __call__(self, x: Tensor, u0: float, u1: float) -> Tensor:
        """Draw N(0, I) like x; the interval does not matter."""
        del u0, u1
        return self.normal(x)

    def normal(self, x: Tensor) -> Tensor:
        """Draw N(0, I) like x, row i from stream i."""
        rows = np.empty((len(x), math.prod(x.shape[1:])), dtype=np.float32)
        counter_based.normals(self._next(x), rows)
        return to_device(torch.from_numpy(rows).reshape(x.shape), x.device, x.dtype)

    def uniform(self, x: Tensor) -> Tensor:
        """Draw one uniform number per sample, number i from stream i."""
        return to_device(torch.from_numpy(counter_based.uniforms(self._next(x))), x.device)

    def _next(self, x: Tensor) -> counter_based.Keys:
        """The keys of the next draw."""
        self._check(x)
        self._draws += 1
        return counter_based.derive_keys(self._roots, counter_based.as_key(self._draws))

    def _check(self, x: Tensor) -> None:
        if len(x) != len(self.seeds):
            raise ValueError(
                f"{type(self).__name__} has {len(self.seeds)} seeds but the batch has {len(x)} samples; "
                "give one seed per sample"
            )


class Brownian(PerSample):
    r"""One Brownian path W per sample on the interval [0, 1], a function of seed and time only.

    The path does not depend on the time grid or on the order of queries, so samples of coarse and fine grids can be
    compared. The interval is bisected repeatedly, and in every cell of level n and number k a draw adds to the path,

    .. math::
        W(u) = u Z + \sum_{n=0}^{d-1} 2^{-n/2 - 1} h(v_n) Z_{n,k_n} + 2^{-d/2} \sqrt{v_d (1 - v_d)}\, Z_{d,k_d},
        \qquad k_n = \lfloor 2^n u \rfloor, \quad v_n = 2^n u - k_n, \quad h(v) = 1 - |2 v - 1| .

    The last term is the bridge over a smallest cell at one time of it. The distribution is exact for times of which no
    two lie within one smallest cell; increments within a cell are rejected. Smallest cells have length
    :math:`2^{-d}` from 1/8 to 1; every octave of time below has as many of them as the octave from 1/8 to 1/4.

    The path at a time is a sum of one draw per level. The draws of the last time are cached, about d + 16 batches in
    float32, so a step costs only the cells that it does not share with the previous step, about d + 2 - log2(steps)
    draws like x. Times that are multiples of :math:`2^{-n}` need at most n draws. A deeper path agrees with the coarser
    one at the ends of the latter's smallest cells.
    Fresh and uniform draws are those of :class:`PerSample`.

    Source: Levy, 1948; on demand as a tree: Li et al., 2020, arXiv:2001.01328, section 4, which interpolates below
    its tolerance and so loses variance there.

    Arguments:
        seeds: one seed in [0, 2^64) per sample of a batch.
        depth: levels d; a grid of equal steps may have :math:`2^d - 1` of them.

    Raises:
        ValueError: a seed or depth is out of its range; or later a time lies outside [0, 1], both ends of an interval
            lie within one smallest cell, or a batch has another number of samples.
    """

    def __init__(self, seeds: Sequence[int], *, depth: int = 10) -> None:
        super().__init__(seeds)
        if not 1 <= depth <= 52:
            raise ValueError(f"depth={depth} must lie in [1, 52], the bits of a float64 below 1")
        self.depth = depth
        self._drawn = brownian.BrownianPath(self._roots, 0)

    def __call__(self, x: Tensor, u0: float, u1: float) -> Tensor:
        """Look up W(u1) - W(u0) with shape (B, *event) and divide it by sqrt|u1 - u0|."""
        self._check(x)
        start, end = brownian.clamp_time(u0), brownian.clamp_time(u1)
        if start == end or brownian.in_one_cell(start, end, self.depth):
            raise ValueError(
                f"no Brownian increment from {u0} to {u1}: the times must differ by more than the path resolves; "
                f"give Brownian a depth above {self.depth}, or the grid fewer steps"
            )
        scale = 1 / math.sqrt(abs(end - start))
        weights = {cell: scale * weight for cell, weight in brownian.weights(end, self.depth).items()}
        for cell, weight in brownian.weights(start, self.depth).items():
            weights[cell] = weights.get(cell, 0.0) - scale * weight
        if self._drawn.dim != math.prod(x.shape[1:]):
            self._drawn = brownian.BrownianPath(self._roots, math.prod(x.shape[1:]))
        increment = torch.zeros(len(x), self._drawn.dim)
        for weight, z in zip(weights.values(), self._drawn(list(weights)), strict=True):
            increment.add_(z, alpha=weight)
        return to_device(increment.reshape(x.shape), x.device, x.dtype)
