"""Embedded Runge-Kutta methods with steps of every sample's own."""

import abc
import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.denoiser.prediction import Prediction
from sde_gen.ode import Interval, Trial
from sde_gen.ode.tableau import BOGACKI_SHAMPINE, DORMAND_PRINCE, RungeKuttaPair, weighted_sum
from sde_gen.ode.time_variable import AngleVariable, FlowCoefficients
from sde_gen.solver._adaptive import AdaptiveSolver
from sde_gen.utils.broadcasting import broadcast_like, mean_event


@dataclass(frozen=True, kw_only=True)
class AdaptiveRungeKutta(AdaptiveSolver, abc.ABC):
    r"""A pair of Runge-Kutta methods on the probability flow in the angle of the straight path.

    Whatever the process, with m the ratio ``middle``,

    .. math::
        y = \frac{x}{\alpha + \sigma / m}, \qquad \tan^2 u = \frac{\sigma}{m\, \alpha}, \qquad
        \frac{dy}{du} = k = \sin 2u\, (m\, \hat\epsilon - \hat{x}_0),

    where y has the size of the data from noise to data, and so have its errors. With the stages k_i of a step and the
    weights of both methods,

    .. math::
        y_s = y_t + h \sum_i b_i k_i, \qquad
        E = \left\| \frac{h \sum_i (b_i - \hat{b}_i) k_i}{\mathrm{atol} + \mathrm{rtol} \max(|y_t|, |y_s|)}
        \right\|_{rms} .

    The last stage is the first of the next step. The flow in u is smooth from pure noise, where alpha may be zero, to
    data, and the same for every process, as are the steps. Between the ends of a step the samples are interpolated by
    the cubic through both ends and their slopes.

    Why own code, and not torchode (Lienen and Guennemann, 2022, arXiv:2210.12375), which also gives every sample its
    own steps: there samples that have arrived stay in the batch and cost evaluations until the last one has.

    Sources: the norm and local extrapolation: Hairer, Norsett and Wanner, 1993, Solving Ordinary Differential
    Equations I, section II.4.

    Arguments:
        rtol: relative tolerance.
        atol: absolute tolerance, in units of the data.
        max_steps: most steps tried for one sample.
        middle: the ratio m = sigma / alpha in the middle of the path; scales with the data.

    Raises:
        ValueError: a number is out of its range.
    """

    middle: float = 0.3
    pair: ClassVar[RungeKuttaPair]

    def __post_init__(self) -> None:
        """Check the constructor's arguments."""
        super().__post_init__()
        if not 0 < self.middle < math.inf:
            raise ValueError(
                f"middle={self.middle} must be positive; 0.3 suits data of standard deviation 0.5"
            )

    @property
    def stages(self) -> int:
        """All but the first, which is the last of the step before."""
        return len(self.pair.tableau.c) - 1

    @property
    def exponent(self) -> int:
        """The two differ by a term of the lower order's first error."""
        return self.pair.order

    def variable(self, model: Denoiser) -> AngleVariable:
        """The angle."""
        return AngleVariable(model.sde, self.middle)

    def first(self, whole: float) -> float:
        """A tenth of the way: near noise the flow is almost straight."""
        return 0.1 * whole

    def slope(self, model: Denoiser, x: Tensor, t: Tensor) -> Tensor:
        """The k of an evaluation."""
        return along(self.variable(model).rates(t), model(x, t))

    def attempt(self, model: Denoiser, x: Tensor, slope: Tensor, span: Interval) -> Trial:
        """Try a step of every sample."""
        clock = self.variable(model)
        times = self.times(clock, span)
        rates = FlowCoefficients(*(part.reshape(times.shape) for part in clock.rates(times.flatten())))
        y, h = x / broadcast_like(rates.scale[0], x), broadcast_like(span.v - span.u, x)

        def slope_at(k: int, end: Tensor) -> Tensor:
            sample = broadcast_like(rates.scale[k], x) * end
            return along(FlowCoefficients(*(part[k] for part in rates)), model(sample, times[k]))

        end, slopes = self.pair.step(y, h, slope, slope_at)
        tol = self.atol + self.rtol * torch.maximum(y.abs(), end.abs())
        error = torch.sqrt(mean_event((h * weighted_sum(self.pair.error, slopes) / tol).square()))

        def inside(u: Tensor, t: Tensor) -> Tensor:
            r = broadcast_like((u - span.u) / (span.v - span.u), x)
            return broadcast_like(clock.rates(t).scale, x) * self.pair.inside(r, y, end, h, slopes)

        return Trial(broadcast_like(rates.scale[-1], x) * end, error, slopes[-1], inside)

    def times(self, clock: AngleVariable, span: Interval) -> Tensor:
        """Times of the stages with shape (stages, b): at the ends the ends, within them otherwise."""
        nodes = torch.tensor(self.pair.tableau.c, dtype=torch.float64).unsqueeze(-1)
        inner = clock.time(span.u + nodes * (span.v - span.u))
        inner = inner.clamp(torch.minimum(span.t, span.s), torch.maximum(span.t, span.s))
        times: Tensor = torch.where(nodes == 0, span.t, torch.where(nodes == 1, span.s, inner))
        return times


def along(rates: FlowCoefficients, prediction: Prediction) -> Tensor:
    """The slope of a prediction at times with shape (b,)."""
    x0, eps = prediction.x0, prediction.eps
    return broadcast_like(rates.x0, x0) * x0 + broadcast_like(rates.eps, eps) * eps


@dataclass(frozen=True, kw_only=True)
class DormandPrince(AdaptiveRungeKutta):
    """The pair of orders 5 and 4 of Dormand and Prince, six evaluations a step: for answers to a tight tolerance.

    Sources: Dormand and Prince, 1980, Journal of Computational and Applied Mathematics 6, 19; Hairer, Norsett and
    Wanner, Solving Ordinary Differential Equations I, table II.5.2. What it does with them, its arguments and errors:
    :class:`AdaptiveRungeKutta`.
    """

    rtol: float = 1e-5
    atol: float = 1e-5
    pair: ClassVar[RungeKuttaPair] = DORMAND_PRINCE


@dataclass(frozen=True, kw_only=True)
class BogackiShampine(AdaptiveRungeKutta):
    """The pair of orders 3 and 2 of Bogacki and Shampine, three evaluations a step: for loose tolerances.

    Sources: Bogacki and Shampine, 1989, Applied Mathematics Letters 2, 321; Hairer, Norsett and Wanner, Solving
    Ordinary Differential Equations I, section II.5. What it does with them, its arguments and errors:
    :class:`AdaptiveRungeKutta`.
    """

    rtol: float = 1e-4
    atol: float = 1e-4
    pair: ClassVar[RungeKuttaPair] = BOGACKI_SHAMPINE
