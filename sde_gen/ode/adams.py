"""The Adams-Bashforth method of order 3 in fixed steps."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sde_gen.ode.base import Field, Integrator, State


@dataclass(frozen=True, kw_only=True)
class Adams(Integrator):
    r"""The Adams-Bashforth method of order 3: one evaluation a step, samples independent.

    .. math::
        y_{n+1} = y_n + \frac{h}{12} (23 f_n - 16 f_{n-1} + 5 f_{n-2}) ,

    started by a step of Heun's method, with one more evaluation, and a step of order 2: their errors are O(h^3).

    Every evaluation is at a different time, and all but the first and last few have equal weights. A trained network
    is much rougher in its noise label than the exact flow, and then many different times estimate the integral better
    than a method of higher order with two evaluations at half as many. Errors of fresh probes average likewise.

    Source: Hairer, Norsett and Wanner, 1993, Solving Ordinary Differential Equations I, section III.1, eq. 1.5.

    Arguments:
        steps: number of steps.

    Raises:
        ValueError: steps below 1.
    """

    steps: int = 128

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps={self.steps}: at least one step is needed")

    @property
    def nfe(self) -> int:
        """Evaluations of the field."""
        return self.steps + 1

    def refine(self) -> "Adams":
        """Return the method with twice the steps: an eighth of the error where the field is smooth."""
        return replace(self, steps=2 * self.steps)

    def integrate(self, field: Field, y: State, t0: float, t1: float) -> State:
        """Integrate from t0 to t1."""
        times = t0 + (t1 - t0) * torch.linspace(0, 1, self.steps + 1, dtype=torch.float64)
        times[-1] = t1  # without rounding
        h = (t1 - t0) / self.steps
        f0 = field(times[0], y)
        predicted = _step(y, (h, f0))
        y = _step(y, (h / 2, f0), (h / 2, field(times[1], predicted)))
        slopes = [f0]
        for t in times[1:-1]:
            slopes = [field(t, y), *slopes[:2]]
            y = _step(y, *((h * weight, f) for weight, f in zip(WEIGHTS[len(slopes)], slopes, strict=True)))
        return y


WEIGHTS = {2: (3 / 2, -1 / 2), 3: (23 / 12, -16 / 12, 5 / 12)}
"""Weights by the number of known slopes, newest first."""


def _step(y: State, *terms: tuple[float, State]) -> State:
    """Return ``y + sum weight slope``."""

    def updated(i: int, part: Tensor) -> Tensor:
        for weight, slope in terms:
            part = torch.add(part, slope[i], alpha=weight)
        return part

    return tuple(updated(i, part) for i, part in enumerate(y))
