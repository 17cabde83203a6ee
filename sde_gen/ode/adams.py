"""The Adams-Bashforth method of order 3 in fixed steps."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sde_gen.ode.base import Field, Integrator, State


@dataclass(frozen=True, kw_only=True)
class Adams(Integrator):
    r"""The Adams-Bashforth method of order 3: one evaluation a step, and no sample depends on its batch.

    .. math::
        y_{n+1} = y_n + \frac{h}{12} (23 f_n - 16 f_{n-1} + 5 f_{n-2}) ,

    begun by a step of Heun's method, which costs one evaluation more, and one of order 2: both err by O(h^3), once.

    Every evaluation is at a time of its own, and all but the first and last few weigh the same. A trained network
    is rough in its noise label, far more than the flow it stands for, and then that counts more than the order: the
    integral is told better by many different times than by a method that asks twice at half as many. So do fresh
    probes, whose errors average.

    Source: Hairer, Norsett and Wanner, 1993, Solving Ordinary Differential Equations I, section III.1, eq. 1.5.

    Arguments:
        steps: number of steps.

    Raises:
        ValueError: steps below 1.
    """

    steps: int = 128

    def __post_init__(self) -> None:
        """Check the constructor's arguments."""
        if self.steps < 1:
            raise ValueError(f"steps={self.steps}: at least one step is needed")

    def refine(self) -> "Adams":
        """Twice the steps: an eighth of the error, where the field is smooth."""
        return replace(self, steps=2 * self.steps)

    def integrate(self, field: Field, y: State, t0: float, t1: float) -> State:
        """Carry y from t0 to t1."""
        times = t0 + (t1 - t0) * torch.linspace(0, 1, self.steps + 1, dtype=torch.float64)
        times[-1] = t1  # whatever the rounding
        h = (t1 - t0) / self.steps
        f0 = field(times[0], y)
        predicted = _step(y, (h, f0))
        y = _step(y, (h / 2, f0), (h / 2, field(times[1], predicted)))
        past = [f0]
        for t in times[1:-1]:
            past = [field(t, y), *past[:2]]
            y = _step(y, *((h * weight, f) for weight, f in zip(WEIGHTS[len(past)], past, strict=True)))
        return y


WEIGHTS = {2: (3 / 2, -1 / 2), 3: (23 / 12, -16 / 12, 5 / 12)}
"""By the number of slopes that are known, newest first."""


def _step(y: State, *terms: tuple[float, State]) -> State:
    """``y + sum weight slope``."""

    def moved(i: int, part: Tensor) -> Tensor:
        for weight, slope in terms:
            part = torch.add(part, slope[i], alpha=weight)
        return part

    return tuple(moved(i, part) for i, part in enumerate(y))
