r"""DPM-Solver-12 and DPM-Solver-23: DPM-Solvers of adjacent orders with per-sample adaptive step sizes.

Their steps are exact in everything but the network: with ``lam = log(alpha / sigma)`` the probability flow is, for any
alpha and sigma,

.. math::
    \frac{d}{d\lambda} \frac{x}{\alpha} = -e^{-\lambda} \hat\epsilon .

Source: Lu et al., 2022, arXiv:2206.00927, proposition 3.1.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.ode import Interval, Trial
from sde_gen.ode.time_variable import HalfLogSNR
from sde_gen.sde.base import SDE
from sde_gen.solver._adaptive import AdaptiveSolver
from sde_gen.solver._validation import require_order, require_signal
from sde_gen.utils.broadcasting import broadcast_like, mean_event


class FlowPoint(NamedTuple):
    """A time with its alpha, sigma and lam = log(alpha / sigma), all float64 with shape ()."""

    t: Tensor
    alpha: Tensor
    sigma: Tensor
    lam: Tensor

    @classmethod
    def at(cls, sde: SDE, t: Tensor) -> "FlowPoint":
        """Evaluate a process at a time."""
        return cls(t, *sde.marginal(t), 0.5 * sde.log_snr(t))

    @classmethod
    def between(cls, sde: SDE, a: "FlowPoint", b: "FlowPoint", r: float) -> "FlowPoint":
        """Evaluate a process at the fraction r between a and b in lam."""
        return cls.at(sde, sde.t_from_log_snr(2 * (a.lam + r * (b.lam - a.lam))))


def exponential_euler(x: Tensor, a: FlowPoint, b: FlowPoint, eps: Tensor) -> Tensor:
    r"""Step from a to b with constant noise: ``x_b = (alpha_b / alpha_a) x_a - sigma_b (e^h - 1) eps``."""
    return (
        broadcast_like(b.alpha / a.alpha, x) * x
        - broadcast_like(b.sigma * torch.expm1(b.lam - a.lam), x) * eps
    )


def linear_term(x: Tensor, a: FlowPoint, b: FlowPoint, slope: Tensor) -> Tensor:
    r"""Contribution to x_b of noise that grows linearly from zero at a to ``slope`` at b.

    .. math::
        -\sigma_b \int_0^h e^{h - u} \frac{u}{h} du\; \mathrm{slope}
        = -\sigma_b \left(\frac{e^h - 1}{h} - 1\right) \mathrm{slope}
    """
    h = b.lam - a.lam
    return -broadcast_like(b.sigma * (torch.expm1(h) / h - 1), x) * slope


@dataclass(frozen=True, kw_only=True)
class DPMAdaptive(AdaptiveSolver):
    r"""DPM-Solver of order 2 or 3, its steps in lam = log(alpha / sigma) chosen by one of the order below.

    With D the difference of the noise predicted at a fraction r of the step and at its begin,

    .. math::
        x^{(1)} &= \frac{\alpha_s}{\alpha_t} x_t - \sigma_s (e^h - 1)\, \hat\epsilon_t, \qquad
        x^{(2)} = x^{(1)} - \frac{1}{2 r} \sigma_s (e^h - 1)\, D_r \\
        E &= \left\| \frac{x^{low} - x^{high}}{\max(\mathrm{atol},\, \mathrm{rtol} \max(|x_t|, |x^{low}|))}
        \right\|_{rms} .

    Order 2 compares x^(1) with x^(2), r = 1/2; order 3 compares x^(2), r = 1/3, with DPM-Solver-3
    (:class:`~sde_gen.solver.DPMSolver3`), which has the same evaluation at 1/3. The higher order is kept.
    Norm and step size are per sample; the paper's code takes the largest norm of the batch. The evaluation at a
    step's begin is kept for another attempt.

    Source: Lu et al., 2022, arXiv:2206.00927, appendix C; there the tolerances are rtol = 0.05 and atol = 0.0078 for
    images in [-1, 1], and x_t in E is the low order's.

    Arguments:
        rtol: relative tolerance.
        atol: absolute tolerance.
        max_steps: most steps tried for one sample.
        higher_order: order of the method that is kept, 2 or 3.

    Raises:
        ValueError: a number is out of its range; or, when called, alpha is zero at an end.
    """

    rtol: float = 1e-3
    atol: float = 1e-3
    higher_order: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        require_order((2, 3), higher_order=self.higher_order)

    def check(self, model: Denoiser, times: Tensor) -> None:
        """Raise ValueError where alpha is zero at an end."""
        require_signal(type(self).__name__, model, times.max())

    @property
    def error_order(self) -> int:
        """Order of the leading error term of the lower order method."""
        return self.higher_order

    @property
    def stages(self) -> int:
        """Evaluations of an attempt, one or two; the evaluation at its start is reused."""
        return self.higher_order - 1

    def variable(self, model: Denoiser) -> HalfLogSNR:
        """Return the variable ``lam = log(alpha / sigma)``."""
        return HalfLogSNR(model.sde)

    def initial_step(self, length: float) -> float:
        """Return the constant of the paper's code."""
        del length
        return 0.05

    def slope(self, model: Denoiser, x: Tensor, t: Tensor) -> Tensor:
        """Return the predicted noise eps."""
        return model(x, t).eps

    def attempt(self, model: Denoiser, x: Tensor, slope: Tensor, span: Interval) -> Trial:
        """Attempt a step of every sample."""
        sde = model.sde
        a, b = FlowPoint.at(sde, span.t), FlowPoint.at(sde, span.s)

        def difference(r: float, growth: Tensor | None = None) -> Tensor:
            """Return D at the fraction r, with constant noise or with noise that grows by ``growth`` until there."""
            p = FlowPoint.between(sde, a, b, r)
            u = exponential_euler(x, a, p, slope)
            return model(u if growth is None else u + linear_term(u, a, p, growth), p.t).eps - slope

        if self.higher_order == 2:
            d = difference(1 / 2)
            low = exponential_euler(x, a, b, slope)
        else:
            d_m = difference(1 / 3)
            d = difference(2 / 3, 2 * d_m)
            low = exponential_euler(x, a, b, slope + 1.5 * d_m)

        def interpolate(p: FlowPoint) -> Tensor:
            """Evaluate the interpolant of the higher order at a point of the step."""
            part = broadcast_like((p.lam - a.lam) / (b.lam - a.lam), x)
            if self.higher_order == 2:
                return exponential_euler(x, a, p, slope + part * d)
            return exponential_euler(x, a, p, slope) + part * linear_term(x, a, p, 1.5 * d)

        high = interpolate(b)
        tol = (self.rtol * torch.maximum(x.abs(), low.abs())).clamp(min=self.atol)
        error = torch.sqrt(mean_event(((low - high) / tol).square()))
        return Trial(high, error, None, lambda lam, time: interpolate(FlowPoint.at(sde, time)))
