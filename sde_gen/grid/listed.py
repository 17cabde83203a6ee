"""Times listed by the user."""

import abc
import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from sde_gen.grid.base import Grid
from sde_gen.sde.base import SDE


@dataclass(frozen=True, kw_only=True)
class _List(Grid):
    """A grid with prescribed times, and so with a fixed number of steps."""

    @abc.abstractmethod
    def given(self, sde: SDE) -> Tensor:
        """Return the listed times, float64 with shape (S + 1,)."""

    def make(self, sde: SDE, steps: int) -> Tensor:
        """Return the listed times after checking their number and their range."""
        times = self.given(sde)
        if steps != len(times) - 1:
            raise ValueError(f"steps={steps}: the list has {len(times)} entries; set steps={len(times) - 1}")
        slack = 1e-9  # tolerance for the rounding of a change of variable at the ends
        if not (float(times.min()) >= sde.t_min * (1 - slack) and float(times.max()) <= 1 + slack):
            raise ValueError(
                f"the list has times {times.tolist()}, outside [t_min={sde.t_min:g}, 1], the range of the process"
            )
        return times.clamp(sde.t_min, 1.0)


@dataclass(frozen=True, kw_only=True)
class Listed(_List):
    """Times as given.

    Arguments:
        times: descending times in [t_min, 1], one more than there are steps.

    Raises:
        ValueError: the list is too short, not finite or does not descend; or later leaves the process' range or is
            called with another number of steps.
    """

    times: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "times", _ordered("times", self.times))

    def given(self, sde: SDE) -> Tensor:
        """Return the times as float64 with shape (S + 1,)."""
        del sde
        return torch.tensor(self.times, dtype=torch.float64)


@dataclass(frozen=True, kw_only=True)
class ListedRatios(_List):
    """Times at which the process has the ratios sigma / alpha of a list: the sigmas of EDM, on every process.

    Arguments:
        ratios: descending positive ratios, one more than there are steps.

    Raises:
        ValueError: the list is too short, not positive and finite or does not descend; or later leaves the process'
            range or is called with another number of steps.
    """

    ratios: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "ratios", _ordered("ratios", self.ratios))
        if self.ratios[-1] <= 0:
            raise ValueError(
                f"ratios={list(self.ratios)} must be positive: the sampler's last step removes the remaining noise, "
                "so leave out a zero at the end"
            )

    def given(self, sde: SDE) -> Tensor:
        """Return the times at which ``log_snr = -2 log ratio``."""
        return sde.t_from_log_snr(-2 * torch.log(torch.tensor(self.ratios, dtype=torch.float64)))


@dataclass(frozen=True, kw_only=True)
class ListedLogSNRs(_List):
    """Times at which the process has the log-SNRs of a list.

    Arguments:
        log_snrs: ascending log(alpha^2 / sigma^2), from noise to data, one more than there are steps.

    Raises:
        ValueError: the list is too short, not finite or does not ascend; or later leaves the process' range or is
            called with another number of steps.
    """

    log_snrs: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "log_snrs", _ordered("log_snrs", self.log_snrs, ascend=True))

    def given(self, sde: SDE) -> Tensor:
        """Return the times at the listed log-SNRs."""
        return sde.t_from_log_snr(torch.tensor(self.log_snrs, dtype=torch.float64))


def _ordered(name: str, values: Iterable[float], *, ascend: bool = False) -> tuple[float, ...]:
    """Return the values as floats after checking that they are finite and strictly monotone."""
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        numbers = ()
    onward = all(a < b if ascend else a > b for a, b in pairwise(numbers))
    if len(numbers) < 2 or not onward or not all(math.isfinite(number) for number in numbers):
        raise ValueError(
            f"{name}={values} must be at least two finite numbers that {'ascend' if ascend else 'descend'} without "
            "repeats; give a list, sort it and remove duplicates"
        )
    return numbers
