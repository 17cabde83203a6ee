"""Stationary Gaussian processes with closed entropy and spectrum, on which density models can be checked."""

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.data.base import Dataset, DatasetSource, Splits


@dataclass(frozen=True, kw_only=True)
class StationaryProcess(DatasetSource):
    r"""A stationary Gaussian series of one channel in windows (1, L), :math:`x \sim N(0, \Sigma)`, continuous.

    Arguments:
        length: number L of times.
        count: number of windows of the training split.
        test_count: number of windows of the test split.
        seed: draws the windows, which are independent of each other.

    Raises:
        ValueError: a number is not positive, or L is below 2.
    """

    length: int = 64
    count: int = 20_000
    test_count: int = 2_000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.length < 2 or self.count < 1 or self.test_count < 1:
            raise ValueError(
                f"length={self.length}, count={self.count}, test_count={self.test_count}: expected at least 2 times "
                "and a window in both splits"
            )

    @abc.abstractmethod
    def autocovariance(self) -> Tensor:
        """Return the covariances of lags 0 to L - 1, float64 with shape (L,)."""

    def covariance(self) -> Tensor:
        """Return the covariance matrix of a window, float64 with shape (L, L)."""
        times = torch.arange(self.length)
        return self.autocovariance()[(times[:, None] - times[None, :]).abs()]

    def entropy(self) -> float:
        r"""Return the differential entropy of a window in nats, :math:`\frac12 \log\det(2 \pi e \Sigma)`."""
        factor = torch.linalg.cholesky(self.covariance())
        return float(0.5 * self.length * math.log(2 * math.pi * math.e) + factor.diagonal().log().sum())

    def periodogram(self) -> Tensor:
        r"""Return the expected periodogram :math:`E |F x|_k^2 / L`, k to L / 2, F the discrete Fourier transform."""
        lags = torch.arange(self.length, dtype=torch.float64)
        weights = (1 - lags / self.length) * self.autocovariance() * torch.where(lags > 0, 2.0, 1.0)
        k = torch.arange(self.length // 2 + 1, dtype=torch.float64)
        return torch.cos(2 * math.pi * k[:, None] * lags / self.length) @ weights

    def load(self) -> Splits:
        """Draw the windows by the Cholesky factor of the covariance matrix."""
        factor = torch.linalg.cholesky(self.covariance())
        generator = torch.Generator().manual_seed(self.seed)

        def part(count: int) -> Dataset:
            noise = torch.randn(count, self.length, generator=generator, dtype=torch.float64)
            return Dataset(values=(noise @ factor.T).float().unsqueeze(1), levels=None)

        return Splits(train=part(self.count), test=part(self.test_count))


@dataclass(frozen=True, kw_only=True)
class Autoregressive(StationaryProcess):
    r"""The AR(2) process :math:`x_t = \phi_1 x_{t-1} + \phi_2 x_{t-2} + e_t` with :math:`e_t \sim N(0, s^2)`.

    Its entropy rate is that of the innovations, :math:`\frac12 \log(2 \pi e s^2)` nats per time.

    Source: Yule, 1927, doi:10.1098/rsta.1927.0007; Brockwell and Davis, 1991, Time Series: Theory and Methods,
    section 3.3 (stationarity and covariances) and section 4.4 (spectrum).

    Arguments:
        coefficients: phi_1 and phi_2.
        innovation: standard deviation s of the innovations; None: that which gives x the variance 1.

    Raises:
        ValueError: the process is not stationary, or s is not positive.
    """

    coefficients: Sequence[float] = (1.0, -0.75)
    innovation: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.coefficients) != 2 or not _stationary(*self.coefficients):
            raise ValueError(
                f"coefficients={list(self.coefficients)}: expected phi_1 and phi_2 of a stationary process, |phi_2| < "
                "1 and |phi_1| < 1 - phi_2"
            )
        if self.innovation is not None and not self.innovation > 0:
            raise ValueError(f"innovation={self.innovation} must be positive")

    @property
    def variance_ratio(self) -> float:
        """Variance of x in units of that of the innovations."""
        first, second = self.coefficients
        return (1 - second) / ((1 + second) * ((1 - second) ** 2 - first**2))

    @property
    def innovation_variance(self) -> float:
        """Variance of the innovations."""
        return 1 / self.variance_ratio if self.innovation is None else self.innovation**2

    def entropy_rate(self) -> float:
        """Return the entropy rate in nats per time."""
        return 0.5 * math.log(2 * math.pi * math.e * self.innovation_variance)

    def autocovariance(self) -> Tensor:
        """Return the covariances by the Yule-Walker recursion."""
        first, second = self.coefficients
        values = [1.0, first / (1 - second)]
        while len(values) < self.length:
            values.append(first * values[-1] + second * values[-2])
        scale = self.variance_ratio * self.innovation_variance
        return scale * torch.tensor(values[: self.length], dtype=torch.float64)


@dataclass(frozen=True, kw_only=True)
class GaussianProcess(StationaryProcess):
    r"""A Gaussian process with a squared exponential kernel and noise.

    .. math::
        k(\tau) = (1 - \nu^2) \exp(-\tau^2 / (2 \ell^2)) + \nu^2 [\tau = 0]

    Source: Rasmussen and Williams, 2006, Gaussian Processes for Machine Learning, section 4.2.1.

    Arguments:
        scale: length l of the kernel, in times.
        noise: standard deviation nu of the noise, between 0 and 1; the variance of x is 1.

    Raises:
        ValueError: one of them is out of range.
    """

    scale: float = 4.0
    noise: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.scale > 0 or not 0 < self.noise <= 1:
            raise ValueError(
                f"scale={self.scale}, noise={self.noise}: expected a positive length, and noise in (0, 1]"
            )

    def autocovariance(self) -> Tensor:
        """Return the kernel at all lags."""
        lags = torch.arange(self.length, dtype=torch.float64)
        smooth = (1 - self.noise**2) * torch.exp(-0.5 * (lags / self.scale) ** 2)
        return smooth + self.noise**2 * (lags == 0)


def _stationary(first: float, second: float) -> bool:
    return abs(second) < 1 and abs(first) < 1 - second
