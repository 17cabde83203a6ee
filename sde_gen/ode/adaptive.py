"""Integration with per-sample adaptive step sizes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from sde_gen.ode.embedded_pair import EmbeddedPair, Interval, Model, Trial
from sde_gen.ode.time_variable import TimeVariable

MIN_STEP = 1e-10
"""Shortest step, relative to the whole interval."""


class Controller(Protocol):
    """A rule for accepting steps and choosing the next step sizes; a pure function."""

    def __call__(self, error: Tensor, previous_error: Tensor) -> tuple[Tensor, Tensor]:
        """Return which steps (b,) are accepted, and the factors (b,) from their sizes to the next ones.

        Arguments:
            error: errors relative to the tolerance with shape (b,).
            previous_error: errors of the last accepted steps with shape (b,); 1 before the first.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class PIController:
    r"""The proportional-integral controller.

    With the error estimate :math:`E \sim h^q` relative to the tolerance, and E' that of the previous step,

    .. math::
        h \leftarrow h \min\big(5, \max(0.2,\; 0.9\, E^{-0.7 / q} E'^{\,0.4 / q})\big)

    where E <= 1. Elsewhere the step is rejected and :math:`h \leftarrow 0.9\, h\, E^{-1 / q}`, within the same limits.

    Sources: Gustafsson, 1991, ACM Transactions on Mathematical Software 17, 4; Hairer and Wanner, 1996, Solving
    Ordinary Differential Equations II, section IV.2; the constants 0.9, 0.2 and 1e-4: the code DOPRI5, Hairer et al.,
    1993, Solving Ordinary Differential Equations I, appendix.

    Arguments:
        error_order: the exponent q.
        safety: factor on the optimal step size.
        min_factor: smallest factor between consecutive step sizes.
        max_factor: largest factor between consecutive step sizes.
        min_error: smallest previous error used: a very accurate step does not justify a long one.
    """

    error_order: int
    safety: float = 0.9
    min_factor: float = 0.2
    max_factor: float = 5.0
    min_error: float = 1e-4

    def __call__(self, error: Tensor, previous_error: Tensor) -> tuple[Tensor, Tensor]:
        """Return which steps are accepted, and the factors to the next step sizes."""
        accept, q = error <= 1, self.error_order
        longer = error ** (-0.7 / q) * previous_error.clamp(min=self.min_error) ** (0.4 / q)
        factor = self.safety * torch.where(accept, longer, error ** (-1 / q))
        return accept, factor.clamp(self.min_factor, self.max_factor)


class Solution(NamedTuple):
    """The result of an adaptive integration.

    Arguments:
        x: samples at the last time with shape (B, *event).
        nfe: evaluations made for every sample with shape (B,).
        rejected: rejected steps of every sample with shape (B,).
    """

    x: Tensor
    nfe: Tensor
    rejected: Tensor


class Step(NamedTuple):
    """Attempted steps of b samples.

    Arguments:
        samples: their indices in the batch with shape (b,).
        interval: the steps.
        trial: their results.
        accept: whether they are accepted, with shape (b,).
    """

    samples: Tensor
    interval: Interval
    trial: Trial
    accept: Tensor


@torch.no_grad()
def integrate_adaptive(
    method: EmbeddedPair[Model],
    model: Model,
    x: Tensor,
    times: Tensor,
    *,
    controller: Controller,
    on_accept: Callable[[Step], None] | None = None,
) -> Solution:
    """Integrate from the first time to the last with a step size per sample.

    No sample depends on the others: finished samples leave the batch, and the model is evaluated for the remaining ones
    only, at times of shape (b,).

    Arguments:
        method: takes steps and estimates their errors.
        model: what the method evaluates: a denoiser, or a field.
        x: samples at times[0] with shape (B, *event).
        times: monotone times, float64 on the CPU with shape (n,).
        controller: accepts steps and chooses step sizes.
        on_accept: called after every attempt in which a step was accepted.

    Raises:
        FloatingPointError: an error estimate is not finite, or the tolerance is not met by max_steps steps or by the
            shortest step.
    """
    variable, count = method.variable(model), len(x)
    knots = variable.from_time(times)
    start, end, length = knots[0], knots[-1], float((knots[-1] - knots[0]).abs())
    x, slope, has_slope = x.clone(), torch.empty_like(x), torch.zeros(count, dtype=torch.bool)
    u, t = start.repeat(count), times[0].repeat(count)
    h = torch.full_like(u, min(method.initial_step(length), length))
    previous_error = torch.ones_like(u)
    nfe, rejected = (torch.zeros(count, dtype=torch.long) for _ in range(2))
    index, active, attempts = torch.arange(count), model, 0
    while len(index):
        missing = index[~has_slope[index]]
        if len(missing):
            remaining = active if len(missing) == len(index) else model.select(missing, count)
            slope[missing] = method.slope(remaining, x[missing], t[missing])
            has_slope[missing] = True
            nfe[missing] += 1

        interval = propose(variable, u[index], t[index], h[index], knots, times)
        trial = method.attempt(active, x[index], slope[index], interval)
        error, attempts = trial.error.double().cpu(), attempts + 1
        nfe[index] += method.stages
        check_error(method, error, interval, knots, index, attempts)

        accept, factor = controller(error, previous_error[index])
        h[index] = (interval.v - interval.u).abs() * factor
        rejected[index[~accept]] += 1
        if on_accept is not None and bool(accept.any()):
            on_accept(Step(index, interval, trial, accept))
        moved, rows = index[accept], accept.nonzero().flatten()
        previous_error[moved] = error[rows]
        x[moved], u[moved], t[moved] = trial.x[rows], interval.v[rows], interval.s[rows]
        has_slope[moved] = trial.slope is not None
        if trial.slope is not None:
            slope[moved] = trial.slope[rows]

        finished = accept & (interval.v == end)
        if bool(finished.any()):
            index = index[~finished]
            active = model.select(index, count)
    return Solution(x, nfe, rejected)


def propose(
    variable: TimeVariable, u: Tensor, t: Tensor, h: Tensor, knots: Tensor, times: Tensor
) -> Interval:
    """Return steps of the given sizes that do not pass the end of the integration."""
    end, (low, high) = knots[-1], sorted((float(times[0]), float(times[-1])))
    last = (end - u).abs() <= 1.001 * h
    v = torch.where(last, end, u + torch.copysign(h, end - u))
    s = torch.where(last, times[-1], variable.to_time(v).clamp(low, high))
    return Interval(u, v, t, s)


def check_error(
    method: EmbeddedPair[Model],
    error: Tensor,
    interval: Interval,
    knots: Tensor,
    index: Tensor,
    attempts: int,
) -> None:
    """Raise FloatingPointError where errors are not finite, or the tolerance cannot be met."""
    name, wrong = type(method).__name__, ~error.isfinite()
    if bool(wrong.any()):
        raise FloatingPointError(
            f"{name} produced non-finite values in step {attempts}, from t={float(interval.t[wrong][0]):.6g} to "
            f"s={float(interval.s[wrong][0]):.6g}, in samples {index[wrong].tolist()[:8]}: the denoiser returned "
            "NaN or infinity there"
        )
    length = float((knots[-1] - knots[0]).abs())
    stuck = (error > 1) & ((interval.v - interval.u).abs() <= MIN_STEP * length)
    if attempts == method.max_steps:
        stuck |= (error > 1) | (interval.v != knots[-1])
    if bool(stuck.any()):
        raise FloatingPointError(
            f"{name} gave up after {attempts} steps at t={float(interval.t[stuck][0]):.6g}, in samples "
            f"{index[stuck].tolist()[:8]}, with rtol={method.rtol}, atol={method.atol} and "
            f"max_steps={method.max_steps}; give larger tolerances, more max_steps, or float64 samples"
        )


class DenseOutput:
    """Samples at given times, interpolated within accepted steps: an ``on_accept`` of :func:`integrate_adaptive`.

    Arguments:
        variable: the variable of integration.
        x: samples at times[0] with shape (B, *event).
        times: the times of the integration with shape (n,).

    Attributes:
        states: samples with shape (n, B, *event); the last ones are those of the last accepted step.
    """

    def __init__(self, variable: TimeVariable, x: Tensor, times: Tensor) -> None:
        self.times, self.knots = times, variable.from_time(times)
        self.states = x.repeat(len(times), *[1] * x.ndim)

    def __call__(self, step: Step) -> None:
        """Interpolate at the times inside the accepted steps."""
        u, v = step.interval.u, step.interval.v
        for k, (knot, time) in enumerate(zip(self.knots[1:-1], self.times[1:-1], strict=True), start=1):
            inside = ((u - knot) * (v - knot) <= 0) & (u != knot) & step.accept
            rows = inside.nonzero().flatten()
            if len(rows):
                self.states[k, step.samples[rows]] = step.trial.dense_output(knot, time)[rows]
        rows = step.accept.nonzero().flatten()
        self.states[-1, step.samples[rows]] = step.trial.x[rows]
