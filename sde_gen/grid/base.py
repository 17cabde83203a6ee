"""The abstract time grid, and grids that are curves between two ends."""

import abc
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.sde.base import SDE
from sde_gen.utils.arguments import Checked, checked


@dataclass(frozen=True, kw_only=True)
class Grid(Checked, abc.ABC):
    """Map from a process and a number of steps to times."""

    @checked
    def __call__(self, sde: SDE, steps: int) -> Tensor:
        """Return the times.

        Arguments:
            sde: the process.
            steps: number of steps, at least 1.

        Returns:
            Descending times within [sde.t_min, 1], float64 on the CPU with shape (steps + 1,).

        Raises:
            ValueError: fewer than one step, or more than the rule has times for.
        """
        if steps < 1:
            raise ValueError(f"steps={steps}: a grid needs at least one step")
        times = self.make(sde, steps)
        if not bool((times[1:] < times[:-1]).all()):
            raise ValueError(
                f"{type(self).__name__} with {steps} steps gives times that do not descend: {times.tolist()}; "
                "take fewer steps or other ends"
            )
        return times

    @abc.abstractmethod
    def make(self, sde: SDE, steps: int) -> Tensor:
        """Return times with shape (steps + 1,) as a new tensor; the caller checks that they descend."""


@dataclass(frozen=True, kw_only=True)
class Curve(Grid):
    """Grid at equal fractions of a curve between two times.

    Doubling the number of steps keeps the times.

    Arguments:
        t_max: the first time.
        t_min: the last time; None uses the process's t_min.

    Raises:
        ValueError: an end lies outside [0, 1], or t_min is not below t_max.
    """

    t_max: float = 1.0
    t_min: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.t_max <= 1:
            raise ValueError(f"t_max={self.t_max} must lie in (0, 1]")
        if self.t_min is not None and not 0 <= self.t_min < self.t_max:
            raise ValueError(f"t_min={self.t_min} must lie in [0, t_max={self.t_max})")

    def make(self, sde: SDE, steps: int) -> Tensor:
        """Times from :meth:`begin` to t_min exactly."""
        t_min = sde.t_min if self.t_min is None else self.t_min
        if t_min < sde.t_min:
            raise ValueError(
                f"t_min={t_min} lies below the process' own t_min={sde.t_min}; give a larger one"
            )
        if t_min >= self.t_max:
            raise ValueError(f"t_max={self.t_max} must lie above t_min={t_min}")
        ends = torch.stack([self.begin(sde), torch.tensor(t_min, dtype=torch.float64)])
        times = self.times(sde, ends[0], ends[1], torch.linspace(0, 1, steps + 1, dtype=torch.float64))
        times[0], times[-1] = ends  # exact, without the rounding of a change of variable
        return times

    def begin(self, sde: SDE) -> Tensor:
        """The first time, float64 with shape (): t_max, unless the grid cannot begin there."""
        del sde
        return torch.tensor(self.t_max, dtype=torch.float64)

    @abc.abstractmethod
    def times(self, sde: SDE, t_max: Tensor, t_min: Tensor, u: Tensor) -> Tensor:
        """Times at the fractions u in [0, 1] between t_max and t_min, as a new tensor."""


@dataclass(frozen=True, kw_only=True)
class RatioGrid(Curve):
    """A grid in a function of sigma / alpha, which some processes let grow to infinity at t = 1.

    Such a grid begins where the ratio is ``ratio_max``, if that is before t_max: the signal there is 1 / ratio_max of a
    standard deviation, and steps beyond are useless.

    Arguments:
        ratio_max: largest sigma / alpha of a grid.

    Raises:
        ValueError: ratio_max is not positive.
    """

    ratio_max: float = 1e3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.ratio_max < math.inf:
            raise ValueError(f"ratio_max={self.ratio_max} must be positive and finite")

    def begin(self, sde: SDE) -> Tensor:
        """The first time: t_max, or where sigma / alpha = ratio_max."""
        t_max = super().begin(sde)
        most = torch.tensor(-2 * math.log(self.ratio_max), dtype=torch.float64)
        return t_max if bool(sde.log_snr(t_max) >= most) else sde.t_from_log_snr(most)

    def times(self, sde: SDE, t_max: Tensor, t_min: Tensor, u: Tensor) -> Tensor:
        """Interpolate log_snr by the subclass' rule."""
        return sde.t_from_log_snr(self.log_snrs(sde.log_snr(t_max), sde.log_snr(t_min), u))

    @abc.abstractmethod
    def log_snrs(self, first: Tensor, last: Tensor, u: Tensor) -> Tensor:
        """Log-SNRs at the fractions u in [0, 1] between the first and the last."""
