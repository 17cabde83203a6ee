"""The classic Runge-Kutta method of order 4 in fixed steps."""

from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from sde_gen.ode.base import Field, Integrator, State


@dataclass(frozen=True, kw_only=True)
class RK4(Integrator):
    """The classic Runge-Kutta method in equal steps of the variable, four evaluations each.

    Source: Kutta, 1901; Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I, table II.1.2.

    Arguments:
        steps: number of steps.

    Raises:
        ValueError: steps below 1.
    """

    steps: int = 32

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps={self.steps}: at least one step is needed")

    @property
    def nfe(self) -> int:
        """Evaluations of the field."""
        return 4 * self.steps

    def refine(self) -> "RK4":
        """Return the method with twice the steps: a sixteenth of the error."""
        return replace(self, steps=2 * self.steps)

    def integrate(self, field: Field, y: State, t0: float, t1: float) -> State:
        """Integrate from t0 to t1."""
        times = t0 + (t1 - t0) * torch.linspace(0, 1, self.steps + 1, dtype=torch.float64)
        times[-1] = t1  # without rounding
        for t, s in pairwise(times.unbind()):
            h, middle = s - t, (t + s) / 2
            k1 = field(t, y)
            k2 = field(middle, _add(y, h / 2, k1))
            k3 = field(middle, _add(y, h / 2, k2))
            k4 = field(s, _add(y, h, k3))
            mean = tuple((a + 2 * b + 2 * c + d) / 6 for a, b, c, d in zip(k1, k2, k3, k4, strict=True))
            y = _add(y, h, mean)
        return y


def _add(y: State, h: Tensor, k: State) -> State:
    return tuple(part + h * slope for part, slope in zip(y, k, strict=True))
