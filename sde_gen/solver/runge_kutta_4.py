"""The classical Runge-Kutta method."""

import math
from dataclasses import dataclass
from typing import ClassVar

from sde_gen.clock import Clock, InAngle
from sde_gen.sde.base import SDE
from sde_gen.solver._runge_kutta import RungeKuttaSolver
from sde_gen.tableau import RUNGE_KUTTA_4, Tableau


@dataclass(frozen=True, kw_only=True)
class RungeKutta4(RungeKuttaSolver):
    r"""The classical Runge-Kutta method in the angle of the straight path.

    Whatever the process, with m the ratio ``middle``,

    .. math::
        y = \frac{x}{\alpha + \sigma / m}, \qquad \tan^2 u = \frac{\sigma}{m\, \alpha}, \qquad
        \frac{dy}{du} = k(y, u) = \sin 2u\, (m\, \hat\epsilon - \hat{x}_0),

    and with h = u_s - u_t

    .. math::
        k_1 &= k(y_t, u_t), \quad k_2 = k(y_t + \tfrac{h}{2} k_1, u_t + \tfrac{h}{2}), \quad
        k_3 = k(y_t + \tfrac{h}{2} k_2, u_t + \tfrac{h}{2}), \quad k_4 = k(y_t + h k_3, u_s) \\
        y_s &= y_t + \tfrac{h}{6} (k_1 + 2 k_2 + 2 k_3 + k_4) .

    In this variable samples at given ratios sigma / alpha are the same on every process, the order does not depend on
    how smooth alpha and sigma are in time, and a start where alpha is zero is the angle pi / 2 (from there steps even
    in t, whose first ones are long in the angle, give order 3). In t, processes that rush through time near noise,
    such as Karras', cost ten times the error and more.

    Source: Kutta, 1901; Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I, table II.1.2.

    Arguments:
        middle: the ratio m = sigma / alpha in the middle of the path; scales with the data.

    Raises:
        ValueError: middle is not positive.
    """

    middle: float = 0.3
    order: ClassVar[int] = 4
    stages: ClassVar[int] = 4
    tableau: ClassVar[Tableau] = RUNGE_KUTTA_4

    def __post_init__(self) -> None:
        """Check the constructor's arguments."""
        if not 0 < self.middle < math.inf:
            raise ValueError(
                f"middle={self.middle} must be positive; 0.3 suits data of standard deviation 0.5"
            )

    def clock(self, sde: SDE) -> Clock:
        """The angle."""
        return InAngle(sde, self.middle)
