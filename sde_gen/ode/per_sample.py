"""Steps of every sample's own, and who is still under way."""

from typing import Generic

import torch
from torch import Tensor

from sde_gen.ode.embedded import EmbeddedPair, Interval, Model, Trial

SAFETY, SHRINK, GROW = 0.9, 0.2, 5.0
"""Safety factor of a new step's length, and the least and the most that it is of the old one's.

Source: the first two and ``LEAST`` are those of the code DOPRI5, Hairer et al., 1993, Solving Ordinary Differential
Equations I, appendix.
"""

LEAST = 1e-4
"""Errors of a step below this count as this for the next: a step that was too good is no reason for a long one."""

SMALLEST = 1e-10
"""Steps shorter than this part of the whole way are given up."""


class PerSampleStepper(Generic[Model]):
    """Where all samples are, each at a time and with a step size of its own.

    Arguments:
        method: takes the steps.
        model: what the method steps by: a denoiser, or a field.
        x: samples at times[0] with shape (B, *event).
        times: monotone times, float64 on the CPU with shape (steps + 1,).

    Attributes:
        x: the samples where they are now.
        nfe: evaluations made for every sample, with shape (B,).
        rejected: steps of every sample that were not good enough, with shape (B,).
        select: indices of those under way.
        here: the model for them.
    """

    def __init__(self, method: EmbeddedPair[Model], model: Model, x: Tensor, times: Tensor) -> None:
        self.method, self.model, self.times = method, model, times
        self.variable = method.variable(model)
        self.knots = self.variable.read(times)
        self.whole = float((self.knots[-1] - self.knots[0]).abs())
        count = len(x)
        self.x, self.slope, self.known = x.clone(), torch.empty_like(x), torch.zeros(count, dtype=torch.bool)
        self.u, self.t = self.knots[0].repeat(count), times[0].repeat(count)
        self.h = torch.full_like(self.u, min(method.first(self.whole), self.whole))
        self.before = torch.ones_like(self.u)
        self.nfe, self.rejected = (torch.zeros(count, dtype=torch.long) for _ in range(2))
        self.select, self.here, self.tried = torch.arange(count), model, 0

    def look(self) -> None:
        """Evaluate where that has not been done."""
        new = self.select[~self.known[self.select]]
        if len(new):
            model = self.here if len(new) == len(self.select) else self.model.select(new, len(self.x))
            self.slope[new] = self.method.slope(model, self.x[new], self.t[new])
            self.known[new] = True
            self.nfe[new] += 1

    def propose(self) -> Interval:
        """The steps to try."""
        u, t, end = self.u[self.select], self.t[self.select], self.knots[-1]
        h = self.h[self.select]
        last = (end - u).abs() <= 1.001 * h
        v = torch.where(last, end, u + torch.copysign(h, end - u))
        low, high = sorted((float(self.times[0]), float(self.times[-1])))
        s = torch.where(last, self.times[-1], self.variable.time(v).clamp(low, high))
        return Interval(u, v, t, s)

    def check_error(self, attempt: Trial, span: Interval) -> Tensor:
        """The errors, float64 on the CPU with shape (b,), unless it is time to give up."""
        name, error = type(self.method).__name__, attempt.error.double().cpu()
        self.nfe[self.select] += self.method.stages
        self.tried += 1
        wrong = ~error.isfinite()
        if bool(wrong.any()):
            raise FloatingPointError(
                f"{name} left the finite numbers in step {self.tried}, from t={float(span.t[wrong][0]):.6g} to "
                f"s={float(span.s[wrong][0]):.6g}, in samples {self.select[wrong].tolist()[:8]}: the denoiser returned "
                "NaN or infinity there"
            )
        stuck = (error > 1) & ((span.v - span.u).abs() <= SMALLEST * self.whole)
        if self.tried == self.method.max_steps:
            stuck |= (error > 1) | (span.v != self.knots[-1])
        if bool(stuck.any()):
            raise FloatingPointError(
                f"{name} gave up after {self.tried} steps at t={float(span.t[stuck][0]):.6g}, in samples "
                f"{self.select[stuck].tolist()[:8]}, with rtol={self.method.rtol}, atol={self.method.atol} and "
                f"max_steps={self.method.max_steps}; give larger tolerances, more max_steps, or float64 samples"
            )
        return error

    def record(self, attempt: Trial, span: Interval, error: Tensor, states: Tensor) -> None:
        """Interpolate at the times that lie in the steps."""
        for k in range(1, len(self.times) - 1):
            knot = self.knots[k]
            inside = ((span.u - knot) * (span.v - knot) <= 0) & (span.u != knot)
            found = (inside & (error <= 1)).nonzero().flatten()
            if len(found):
                states[k, self.select[found]] = attempt.inside(knot, self.times[k])[found]

    def move(self, attempt: Trial, span: Interval, error: Tensor) -> None:
        """Go on where a step was good enough, choose the next lengths, and let go of those that have arrived."""
        good, q = error <= 1, self.method.exponent
        longer = error ** (-0.7 / q) * self.before[self.select] ** (0.4 / q)
        factor = (SAFETY * torch.where(good, longer, error ** (-1 / q))).clamp(SHRINK, GROW)
        self.h[self.select] = (span.v - span.u).abs() * factor
        self.before[self.select[good]] = error[good].clamp(min=LEAST)
        self.rejected[self.select[~good]] += 1
        moved, kept = self.select[good], good.nonzero().flatten()
        self.x[moved], self.u[moved], self.t[moved] = attempt.x[kept], span.v[kept], span.s[kept]
        self.known[moved] = attempt.slope is not None
        if attempt.slope is not None:
            self.slope[moved] = attempt.slope[kept]
        arrived = good & (span.v == self.knots[-1])
        if bool(arrived.any()):
            self.select = self.select[~arrived]
            self.here = self.model.select(self.select, len(self.x))
