"""Abstract base class of metrics of conditional samples: posteriors of simulation-based inference."""

import abc
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from sde_gen.evaluation.metric.sample_metric import Quantity
from sde_gen.utils.arguments import Checked


@dataclass(frozen=True, kw_only=True)
class ConditionalSamples:
    """Samples of q(y | c) for n conditions c, beside the y that belongs to each, in the units of the data.

    Arguments:
        given: the conditions c, with shape (n, V).
        truth: the y that was simulated with c, with shape (n, D).
        draws: samples of the model, with shape (n, L, D).
        reference: samples of the exact distribution, with shape (n, R, D); None where it is not needed.
        log_prob_truth: log q(y | c) of the truth with shape (n,); None where it is not needed.
        log_prob_draws: log q(y | c) of the draws with shape (n, L); None where it is not needed.
    """

    given: Tensor
    truth: Tensor
    draws: Tensor
    reference: Tensor | None = None
    log_prob_truth: Tensor | None = None
    log_prob_draws: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class PosteriorCurve:
    """Line of a plot.

    Arguments:
        name: label in the legend.
        x: abscissas, ascending.
        y: ordinates.
    """

    name: str
    x: Tensor
    y: Tensor


@dataclass(frozen=True, kw_only=True)
class PosteriorResult:
    """Result of a metric.

    Arguments:
        quantities: numbers by name; the first one is the metric.
        curves: lines of its plot; empty for none.
        axes: labels of abscissa and ordinate.
        band: half-width of the band around the diagonal in which 95 % of calibrated curves lie; NaN for none.
    """

    quantities: Mapping[str, Quantity]
    curves: tuple[PosteriorCurve, ...] = ()
    axes: tuple[str, str] = ("", "")
    band: float = float("nan")

    @property
    def name(self) -> str:
        """Name of the metric."""
        return next(iter(self.quantities))

    @property
    def value(self) -> float:
        """Value of the metric."""
        return self.quantities[self.name].value

    @property
    def se(self) -> float:
        """Standard error of the value."""
        return self.quantities[self.name].se


@dataclass(frozen=True, kw_only=True)
class PosteriorMetric(Checked, abc.ABC):
    """Metric of conditional samples.

    Arguments:
        observations: number of conditions.
        draws: samples per condition.

    Attributes:
        what: description of the metric, for tables.
        needs_reference: True if samples of the exact distribution are compared.
        needs_density: True if the density of the model is needed.
        of_samples: False: features of images are not compared.
        of_posteriors: True.
    """

    observations: int
    draws: int
    what: ClassVar[str]
    needs_reference: ClassVar[bool] = False
    needs_density: ClassVar[bool] = False
    of_samples: ClassVar[bool] = False
    of_posteriors: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.observations < 2 or self.draws < 2:
            raise ValueError(
                f"observations={self.observations}, draws={self.draws}: expected at least two of each"
            )

    @abc.abstractmethod
    def __call__(self, samples: ConditionalSamples, rng: np.random.Generator) -> PosteriorResult:
        """Evaluate samples.

        Arguments:
            samples: the samples.
            rng: source of all randomness.
        """


@dataclass(frozen=True, kw_only=True)
class Uniformity:
    r"""Test of uniform statistics: the distribution functions of n calibrated statistics are diagonals.

    The area is the mean absolute distance :math:`\int_0^1 |F(a) - a| da` of the empirical distribution function.

    Arguments:
        u: statistics in [0, 1] with shape (n, K).
        area: mean of the K areas.
        se: bootstrap standard error of that mean over the n rows.
        p_value: smallest p-value of the K Kolmogorov-Smirnov tests, times K (Bonferroni), at most 1.
        signed: mean of F(a) - a over a and over the K statistics: positive where they are too small.
    """

    u: Tensor
    area: float = field(init=False)
    se: float = field(init=False)
    p_value: float = field(init=False)
    signed: float = field(init=False)

    def __post_init__(self) -> None:
        from scipy.stats import kstest  # imported lazily: slow to import

        columns = self.u.T
        p_value = min(
            1.0, len(columns) * min(float(kstest(column.numpy(), "uniform").pvalue) for column in columns)
        )
        n, rng = len(self.u), np.random.default_rng(0)
        grid = torch.linspace(0, 1, GRID, dtype=torch.float64)
        below = (self.u[:, :, None] <= grid).double().flatten(1)
        counts = torch.from_numpy(rng.multinomial(n, np.full(n, 1 / n), BOOTSTRAP)).double()
        weights = torch.cat([torch.ones(1, n, dtype=torch.float64), counts]) / n
        distances = (weights @ below).reshape(len(weights), -1, GRID) - grid
        areas = distances.abs().mean((1, 2))
        for name, value in (
            ("area", float(areas[0])),
            ("se", float(areas[1:].std())),
            ("p_value", p_value),
            ("signed", float(0.5 - self.u.mean())),
        ):
            object.__setattr__(self, name, value)

    def curves(self, names: tuple[str, ...]) -> tuple[PosteriorCurve, ...]:
        """Return the empirical distribution functions of the statistics."""
        grid = torch.linspace(0, 1, GRID, dtype=torch.float64)
        return tuple(
            PosteriorCurve(name=name, x=grid, y=_distribution(column, grid))
            for name, column in zip(names, self.u.T, strict=True)
        )

    @property
    def band(self) -> float:
        """Half-width of the simultaneous band of 95 % for a single statistic (Kolmogorov)."""
        from scipy.stats import kstwo  # imported lazily: slow to import

        return float(kstwo.ppf(0.95, len(self.u)))

    def quantities(self, name: str) -> dict[str, Quantity]:
        """Return area, p-value and signed distance."""
        n = len(self.u)
        signed_se = float(self.u.mean(1).std()) / n**0.5
        return {
            name: Quantity(self.area, self.se, f"bootstrap over {n} observations"),
            "signed distance": Quantity(self.signed, signed_se, f"spread of {n} observations"),
            "p-value of uniformity": Quantity(self.p_value, float("nan"), "Kolmogorov-Smirnov, Bonferroni"),
        }


BOOTSTRAP, GRID = 200, 201
"""Repetitions of the bootstrap, and points of a curve."""


def _distribution(u: Tensor, grid: Tensor) -> Tensor:
    return torch.searchsorted(u.sort().values.contiguous(), grid, right=True).double() / len(u)
