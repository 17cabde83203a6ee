"""Noise labels: the scalar noise level c_noise given to a network."""

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from sde_gen.sde.base import Marginal
from sde_gen.utils.arguments import Checked

LIMIT = 8.0
"""Largest log(sigma / alpha) of a noise label."""


class NoiseLabel(Checked, abc.ABC):
    """A noise label c_noise, a function of the marginal and the time, with the shape of the time."""

    @abc.abstractmethod
    def __call__(self, marginal: Marginal, t: Tensor) -> Tensor:
        """The label with shape () or (B,)."""


@dataclass(frozen=True, kw_only=True)
class Time(NoiseLabel):
    """``scale * t + offset``: 999 t in Song et al., 2021, arXiv:2011.13456 (VP and sub-VP networks).

    A chain of N steps that are counted from zero, the cleanest first, has scale N and offset -1 on
    :class:`~sde_gen.sde.DDPM`.
    """

    scale: float = 999.0
    offset: float = 0.0

    def __call__(self, marginal: Marginal, t: Tensor) -> Tensor:
        """Return ``scale * t + offset``."""
        del marginal
        return self.scale * t + self.offset


@dataclass(frozen=True, kw_only=True)
class NearestTime(Time):
    """``scale * t + offset``, rounded: for networks trained on integer steps that are uniform in time."""

    def __call__(self, marginal: Marginal, t: Tensor) -> Tensor:
        """Return the scaled time, rounded to the nearest integer."""
        return torch.round(super().__call__(marginal, t))


@dataclass(frozen=True, kw_only=True)
class NearestStep(NoiseLabel):
    """The number of the chain's step, from 0, whose noise level sigma / alpha is nearest.

    Networks trained on discrete steps can thus be evaluated at every noise level (Karras et al., 2022,
    arXiv:2206.00364, table 1, where c_noise of improved DDPM is an argmin).

    Arguments:
        betas: the chain's table, as in :class:`~sde_gen.sde.DDPM`.
    """

    betas: Sequence[float] = field(repr=False)

    @cached_property
    def _between(self) -> Tensor:
        """Noise levels half way between those of two steps."""
        decay = torch.cumsum(
            -torch.log1p(-torch.tensor([*self.betas], dtype=torch.float64)), 0
        )  # -log alpha^2
        levels = torch.expm1(decay).sqrt()
        return (levels[1:] + levels[:-1]) / 2

    def __call__(self, marginal: Marginal, t: Tensor) -> Tensor:
        """Return the index of the step with the nearest noise level, with the shape of t."""
        level = marginal.sigma / marginal.alpha
        return torch.bucketize(level, self._between.to(level)).to(t)


@dataclass(frozen=True, kw_only=True)
class InterpolatedStep(NoiseLabel):
    r"""The place of sigma / alpha among the steps of a chain, from 0, with fractions between two steps.

    Source: Katherine Crowson, k-diffusion, external.py, ``sigma_to_t``, which diffusers' schedulers have, too.

    Arguments:
        betas: the chain's table, as in :class:`~sde_gen.sde.DDPM`.
        logarithmic: whether log(sigma / alpha) is interpolated, or the ratio itself.
        rounded: whether the place is rounded to the nearest step.
    """

    betas: Sequence[float] = field(repr=False)
    logarithmic: bool = True
    rounded: bool = False

    @cached_property
    def _table(self) -> Tensor:
        """Noise levels of the steps, ascending, or their logarithms."""
        decay = torch.cumsum(-torch.log1p(-torch.tensor([*self.betas], dtype=torch.float64)), 0)
        logs = 0.5 * torch.log(torch.expm1(decay))
        return logs if self.logarithmic else torch.exp(logs)

    def __call__(self, marginal: Marginal, t: Tensor) -> Tensor:
        """Return the place with the shape of t."""
        value = torch.log(marginal.sigma) - torch.log(marginal.alpha)
        value, table = (value if self.logarithmic else torch.exp(value)), self._table.to(value)
        below = (torch.bucketize(value, table, right=True) - 1).clamp(0, len(table) - 2)
        fraction = ((value - table[below]) / (table[below + 1] - table[below])).clamp(0, 1)
        place = below + fraction
        return (torch.round(place) if self.rounded else place).to(t)


@dataclass(frozen=True, kw_only=True)
class LogTime(NoiseLabel):
    """``log(scale * t)``, for networks that take the logarithm of every label, of times too."""

    scale: float = 999.0

    def __call__(self, marginal: Marginal, t: Tensor) -> Tensor:
        """The logarithm of the scaled time."""
        del marginal
        return torch.log(self.scale * t)


@dataclass(frozen=True, kw_only=True)
class LogSigma(NoiseLabel):
    """``scale * log(sigma / alpha)``: the log noise level of the sample scaled back to its data.

    For VE this is log sigma as in Song et al., 2021, arXiv:2011.13456 (NCSN++; scale 1); Karras et al.,
    2022, arXiv:2206.00364, table 1, use scale 1/4.

    The logarithm ends at :data:`LIMIT`, where the signal is a 3000th of the noise: where alpha is zero (the straight
    path at t = 1) the label stays finite and a value that training has seen.

    Arguments:
        scale: factor of the logarithm.
    """

    scale: float = 1.0

    def __call__(self, marginal: Marginal, t: Tensor) -> Tensor:
        """The scaled log noise-to-signal ratio."""
        del t
        return self.scale * (torch.log(marginal.sigma) - torch.log(marginal.alpha)).clamp(max=LIMIT)


@dataclass(frozen=True, kw_only=True)
class Ratio(NoiseLabel):
    """``sigma / (unit alpha)``: the noise level itself, on data ``unit`` times smaller.

    Arguments:
        unit: how many times larger data and noise are here.
    """

    unit: float = 1.0

    def __call__(self, marginal: Marginal, t: Tensor) -> Tensor:
        """Return ``sigma / (unit alpha)``."""
        del t
        return marginal.sigma / (self.unit * marginal.alpha)


@dataclass(frozen=True, kw_only=True)
class LogRatio(NoiseLabel):
    """``scale * log(sigma / (unit alpha))``: for networks that were trained elsewhere, on any noise level.

    Arguments:
        unit: how many times larger data and noise are here.
        scale: factor of the logarithm.
    """

    unit: float
    scale: float = 1.0

    def __call__(self, marginal: Marginal, t: Tensor) -> Tensor:
        """The scaled log noise level there, without an end."""
        del t
        return self.scale * (torch.log(marginal.sigma) - torch.log(marginal.alpha) - math.log(self.unit))
