"""The classic Runge-Kutta method of order 4 in fixed steps."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from sde_gen.integrator.base import Field, Integrator


@dataclass(frozen=True, kw_only=True)
class RungeKutta4(Integrator):
    r"""The classic Runge-Kutta method in equal steps of a smooth clock u with t = u^power.

    .. math::
        \frac{dy}{du} = p\, u^{p - 1} f(u^p, y)

    power = 1 is equal steps of t; a larger power puts more steps near t = 0, where the flow of most
    processes is fast. Four evaluations a step; samples do not depend on their batch.

    Source: Kutta, 1901; Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I, table II.1.2.

    Arguments:
        steps: number of steps.
        power: p of the clock.

    Raises:
        ValueError: steps below 1 or power below 1.
    """

    steps: int = 64
    power: float = 1.0

    def __post_init__(self) -> None:
        """Check the constructor's arguments."""
        if self.steps < 1:
            raise ValueError(f"steps={self.steps}: at least one step is needed")
        if not self.power >= 1:
            raise ValueError(f"power={self.power} must be at least 1, which is equal steps of t")

    def integrate(self, field: Field, y: tuple[Tensor, ...], t0: float, t1: float) -> tuple[Tensor, ...]:
        """Carry y from t0 to t1."""
        if min(t0, t1) < 0:
            raise ValueError(f"t0={t0}, t1={t1}: the clock t = u^power needs times that are not negative")
        ends = torch.tensor([t0, t1], dtype=torch.float64)
        low, high = ends.min(), ends.max()

        def slope(u: Tensor, y: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            rate = self.power * u ** (self.power - 1)
            t = (u**self.power).clamp(low, high)  # rounding must not leave the interval
            return tuple(rate * part for part in field(t, y))

        u0, u1 = ends ** (1 / self.power)
        clock = u0 + (u1 - u0) * torch.linspace(0, 1, self.steps + 1, dtype=torch.float64)
        for u, v in pairwise(clock.unbind()):
            h = v - u
            k1 = slope(u, y)
            k2 = slope(u + h / 2, _add(y, h / 2, k1))
            k3 = slope(u + h / 2, _add(y, h / 2, k2))
            k4 = slope(v, _add(y, h, k3))
            mean = tuple((a + 2 * b + 2 * c + d) / 6 for a, b, c, d in zip(k1, k2, k3, k4, strict=True))
            y = _add(y, h, mean)
        return y


def _add(y: tuple[Tensor, ...], h: Tensor, k: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(part + h * slope for part, slope in zip(y, k, strict=True))
