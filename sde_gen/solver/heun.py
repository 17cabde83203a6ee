"""Heun's method on the probability flow."""

from dataclasses import dataclass
from typing import ClassVar

from sde_gen.clock import Clock, InTime
from sde_gen.sde.base import SDE
from sde_gen.solver._runge_kutta import RungeKuttaSolver
from sde_gen.tableau import Tableau


@dataclass(frozen=True, kw_only=True)
class Heun(RungeKuttaSolver):
    r"""The trapezoidal rule with an Euler predictor, on dx/dt = alpha' x_0 + sigma' eps.

    .. math::
        d_t = v(x_t, t), \quad d_s = v(x_t + (s - t) d_t, s), \quad
        x_s = x_t + \tfrac{1}{2} (s - t) (d_t + d_s)

    The last step is one like the others, since grids end at t_min > 0 where the velocity is finite.

    Source: Karras et al., 2022, arXiv:2206.00364, algorithm 1, in t instead of sigma.
    """

    order: ClassVar[int] = 2
    stages: ClassVar[int] = 2
    tableau: ClassVar[Tableau] = Tableau(c=(0, 1), a=((1,),), b=(1 / 2, 1 / 2))

    def clock(self, sde: SDE) -> Clock:
        """Time."""
        return InTime(sde)
