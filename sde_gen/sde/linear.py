"""A process defined by drift and diffusion."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from torch import Tensor

from sde_gen.sde import _spline
from sde_gen.sde._kernel import Kernel
from sde_gen.sde.base import SDE, check_t_min
from sde_gen.utils.arguments import Checked
from sde_gen.utils.broadcasting import times as as_times
from sde_gen.utils.types import TimeFunction


@dataclass(frozen=True, kw_only=True)
class Table(Checked):
    """A function of time through tabulated values, by the cubic spline with two continuous derivatives.

    Arguments:
        times: ascending times, at least 4, from 0 to 1.
        values: the values there.

    Raises:
        ValueError: lengths differ, times do not ascend from 0 to 1, or a number is not finite.
    """

    times: tuple[float, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        times, values = (tuple(float(number) for number in row) for row in (self.times, self.values))
        if len(times) != len(values) or len(times) < 4:
            raise ValueError(
                f"{len(times)} times and {len(values)} values: expected as many of both, at least 4"
            )
        if not np.isfinite([*times, *values]).all():
            raise ValueError(f"times and values must be finite, got {times} and {values}")
        if times[0] != 0 or times[-1] != 1 or not (np.diff(times) > 0).all():
            raise ValueError(f"times must ascend from 0 to 1, got {times}")
        object.__setattr__(self, "times", times)
        object.__setattr__(self, "values", values)

    @cached_property
    def _spline(self) -> _spline.Cubic:
        return _spline.cubic_spline(np.array(self.times), np.array(self.values))

    def __call__(self, t: Tensor) -> Tensor:
        """Value at times of any shape."""
        return self._spline(as_times(t))


@dataclass(frozen=True, kw_only=True)
class Linear(SDE):
    r"""dx = f(t) x dt + g(t) dw for any f and g; the kernel follows by quadrature.

    .. math::
        \alpha(t) = \exp \int_0^t f, \qquad
        \sigma^2(t) = \alpha^2(t) \Big( \sigma_0^2 + \int_0^t \frac{g^2(u)}{\alpha^2(u)} du \Big) .

    Both integrals are Gauss-Legendre panels computed once, in float64; f and g are not called again for them.

    Source: Sarkka and Solin, 2019, Applied Stochastic Differential Equations, section 6.1.

    Arguments:
        drift_rate: f, a function of tensors of any shape to tensors of the same shape, smooth between
            breakpoints.
        diffusion: g, likewise, positive.
        sigma0: noise standard deviation at t = 0.
        breakpoints: times in (0, 1) where f, g or a derivative jumps.
        t_min: the smallest time.

    Raises:
        ValueError: f or g returns another shape, a value that is not finite or a g that is not positive, or
            is too rough to be integrated; or an argument is out of its range.
    """

    drift_rate: TimeFunction = field()
    diffusion: TimeFunction = field()
    sigma0: float = 0.0
    breakpoints: tuple[float, ...] = ()
    t_min: float = 1e-5

    def __post_init__(self) -> None:
        object.__setattr__(self, "breakpoints", tuple(float(time) for time in self.breakpoints))
        if not all(0 < time < 1 for time in self.breakpoints):
            raise ValueError(f"breakpoints={self.breakpoints} must lie strictly between 0 and 1")
        if not 0 <= self.sigma0 < math.inf:
            raise ValueError(f"sigma0={self.sigma0} must be finite and not negative")
        check_t_min(self.t_min, zero="" if self.sigma0 > 0 else "sigma(0) is zero")
        kernel = Kernel.of(self.drift_rate, self.diffusion, self.sigma0, self.breakpoints)
        object.__setattr__(self, "_kernel", kernel)

    @classmethod
    def from_table(
        cls,
        times: Sequence[float],
        drift_rate: Sequence[float],
        diffusion: Sequence[float],
        *,
        sigma0: float = 0.0,
        t_min: float = 1e-5,
    ) -> "Linear":
        """Make the process whose f and g are splines through values at common times, see :class:`Table`."""
        f, g = (Table(times=tuple(times), values=tuple(values)) for values in (drift_rate, diffusion))
        return cls(drift_rate=f, diffusion=g, sigma0=sigma0, breakpoints=f.times[1:-1], t_min=t_min)

    _kernel: Kernel = field(init=False, repr=False, compare=False)

    def alpha(self, t: Tensor) -> Tensor:
        """Exponential of the integral of f."""
        return self._kernel.alpha(t.double()).to(t.dtype)

    def sigma(self, t: Tensor) -> Tensor:
        """Square root of the integrated noise."""
        return self._kernel.sigma(t.double()).to(t.dtype)

    def log_snr(self, t: Tensor) -> Tensor:
        """2 log(alpha) - log(sigma^2), from the integrals."""
        return self._kernel.log_snr(t.double()).to(t.dtype)

    def alpha_dot(self, t: Tensor) -> Tensor:
        """Drift rate times alpha."""
        return self.drift_rate(t) * self.alpha(t)

    def sigma_dot(self, t: Tensor) -> Tensor:
        """Drift rate times sigma, and g^2 / (2 sigma)."""
        sigma = self.sigma(t)
        return self.drift_rate(t) * sigma + 0.5 * self.diffusion(t) ** 2 / sigma
